// How Allure 3 renders a run's results: `tox -e report`. Paths are from the top of the checkout.
import { readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

const topologies = readdirSync("topologies")
  .filter((name) => name.endsWith(".yaml"))
  .map((name) => name.replace(".yaml", ""))
  .sort();
const claims = [...readFileSync("docs/claims.md", "utf8").matchAll(/<a id="([A-Z]+-\d\d)">/g)].map(([, code]) => code);
const families = {
  TRUST: "certificates, roots and identities",
  DISCOVERY: "what control planes and proxies know",
  GATEWAYS: "what gateways expose and refuse",
  CONTROL: "injection, configuration and versions",
  TRAFFIC: "what requests meet",
  FAILOVER: "what still works while parts are dead",
  UPGRADE: "before and during an Istio upgrade",
};

// Allure's quality gate uses this method of iterators, which Node has from version 22 on only.
const iterator = Object.getPrototypeOf(Object.getPrototypeOf([].values()));
iterator.toArray ??= function toArray() {
  return [...this];
};

const has = (labels, name, value) => labels.some((label) => label.name === name && label.value === value);
// The chart has room for a dozen letters: MP multinet.
const short = (topology) => {
  const words = topology.split("-");
  const last = words.pop();
  return topology.length > 13 ? `${words.map((word) => word[0].toUpperCase()).join("")} ${last}` : topology;
};

export default {
  name: "meshproof",
  output: "reports/allure-report",
  resultsDir: "reports/allure-results",
  historyPath: "reports/history/allure.jsonl",
  historyLimit: 30,
  appendHistory: !process.argv.includes("quality-gate"),
  // A topology is an environment: four topologies are four results of a claim, and not retries of one.
  environments: Object.fromEntries(
    topologies.map((topology) => [
      topology,
      { name: short(topology), matcher: ({ labels }) => has(labels, "epic", topology) },
    ]),
  ),
  variables: Object.fromEntries(topologies.map((topology) => [short(topology), topology])),
  hideLabels: ["host", "thread", "framework", "language", "package", "parentSuite", "suite", "subSuite"],
  categories: [
    ...Object.entries(families).map(([family, meaning]) => ({
      name: `${family}: ${meaning}`,
      matchers: { statuses: ["failed"], labels: { story: new RegExp(`^${family}-`) } },
      groupByMessage: false,
      expand: true,
    })),
    {
      name: "BROKEN: nothing is known about the mesh",
      matchers: { statuses: ["broken"] },
      groupByMessage: false,
      expand: true,
    },
    { name: "does not apply, or is not available here", matchers: { statuses: ["skipped"] } },
  ],
  plugins: {
    awesome: {
      import: fileURLToPath(new URL("page.mjs", import.meta.url)),
      options: {
        reportLanguage: "en",
        singleFile: true,
        groupBy: ["feature"],
        sections: ["charts"],
        charts: [
          { type: "problemsDistribution", by: "environment", title: "Topology x suite: share that does not hold" },
          { type: "currentStatus", title: "This run" },
          { type: "statusDynamics", title: "Runs before it", limit: 20 },
          { type: "statusTransitions", title: "What changed from run to run", limit: 20 },
        ],
      },
    },
  },
  // `tox -e report-gate`: what a night must have shown.
  qualityGate: {
    rules: [
      { minTestsCount: topologies.length * claims.length, maxFailures: 0 },
      { filter: ({ status }) => status !== "skipped", environmentsTested: topologies.map(short) },
    ],
  },
};
