"""Certificate authorities, certificates, trust domains and clocks."""
