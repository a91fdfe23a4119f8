"""libgit2, as pygit2 has it: by_pygit2.py ACT URL FOLDER [WORD…]. Credentials are in the URL."""

import os
import sys

import pygit2


class Callbacks(pygit2.RemoteCallbacks):
    def push_update_reference(self, refname, message):
        if message:
            rejected.append(f"{refname} {message}")

    def sideband_progress(self, string):
        print(f"remote: {string.strip()}", file=sys.stderr)


def main(act, url, folder, *words):
    proxy = os.environ.get("https_proxy") or None
    pygit2.settings.set_ssl_cert_locations(os.environ["GIT_SSL_CAINFO"], None)
    if act == "clone":
        depth = int(words[0]) if words else 0
        pygit2.clone_repository(url, folder, bare=True, callbacks=Callbacks(), proxy=proxy, depth=depth)
        return
    repository = pygit2.Repository(folder)
    remote = repository.remotes.create_anonymous(url)
    if act == "fetch":
        remote.fetch(list(words), callbacks=Callbacks(), proxy=proxy)
    elif act == "push":
        remote.push(list(words), callbacks=Callbacks(), proxy=proxy)


rejected = []
try:
    main(*sys.argv[1:])
except Exception as error:  # noqa: BLE001
    sys.exit(f"{type(error).__name__}: {error}")
if rejected:
    sys.exit("rejected: " + "\n".join(rejected))
