"""Resets signal handling that a process inherits from its parent to what our processes need.

A non-interactive shell starts background jobs with SIGINT ignored (POSIX, Shell Command Language, 2.11), and execve(2)
passes ignored and blocked signals on: Python then installs no handler for Ctrl-C, and neither do its children.
"""

from __future__ import annotations

import signal
import threading


def reset_inherited_signals() -> None:
    """Let SIGINT raise KeyboardInterrupt and SIGTERM end this process again, and block no signal.

    Installed handlers stay. Children begin with the defaults, since exec resets handled signals. An
    ignored SIGCHLD would make every child appear successful (waitpid(2), ECHILD). SIGHUP stays ignored: nohup does
    that on purpose. Does nothing outside of the main thread, which alone can handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
