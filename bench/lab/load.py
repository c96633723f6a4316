# SPDX-License-Identifier: Apache-2.0
"""load: runs build/bench/load and hands back its figures."""

import json
import subprocess

from .server import DOMAIN, PASSWORD, Failed


class Load:
    def __init__(self, program, cpu=None):
        self.program = program
        self.cpu = cpu  # core to pin the generator to

    def arguments(self, server, scenario, user, first, last, connections, **options):
        port = server.lmtp if scenario == "lmtp" else server.pop3s if options.get("tls") == "implicit" else server.pop3
        words = [self.program, "--scenario", scenario, "--address", "127.0.0.1:%d" % port, "--user",
                 "%s@%s" % (user, DOMAIN), "--password", PASSWORD, "--first", str(first), "--last", str(last),
                 "--connections", str(connections), "--json", "-"] + server.load_arguments()
        if self.cpu is not None:
            words += ["--cpu", str(self.cpu)]
        for name, value in options.items():
            words += ["--" + name.replace("_", "-")] + ([] if value is True else [str(value)])
        return words

    def run(self, server, scenario, user, first, last, connections, **options):
        """One run's figures as a dict. An error of any operation is a failure of the comparison."""
        words = self.arguments(server, scenario, user, first, last, connections, **options)
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=3600, check=False)
        if done.returncode == 2 or not done.stdout:
            raise Failed("load: %s\n  %s" % (done.stderr.strip(), " ".join(words)))
        figures = json.loads(done.stdout)
        figures["server"] = server.name
        figures["command"] = words
        if figures["errors"]:
            raise Failed("%s against %s: %d errors: %s" % (scenario, server.name, figures["errors"],
                                                            "; ".join(figures["error_text"])))
        return figures

    def fill(self, server, user, first, last, messages, size, connections=16):
        """Exactly `messages` of `size` octets into each mailbox, each as a delivery of its own
        or, where it makes no difference, many recipients at a time."""
        users = last - first + 1
        recipients = min(users, 50)
        while users % recipients:
            recipients -= 1
        return self.run(server, "lmtp", user, first, last, min(connections, max(1, users * messages // recipients)),
                        count=users * messages // recipients, recipients=recipients, size=size, pipeline=2)
