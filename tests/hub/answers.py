"""What a Hub and its CDN in good health answer: listings, redirects and files."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from tests.hub.limits import RequestWindow, SignedLinks
from tests.hub.listings import model_info, tree_entries
from tests.hub.protocol import Reply, json_reply, make_file

if TYPE_CHECKING:
    from tests.hub.protocol import File, Headers, Repo, Request

_API = re.compile(
    r"/api/models/(?P<repo>[^/]+(?:/[^/]+)??)"
    r"(?:/(?P<verb>revision|tree|xet-read-token)(?:/(?P<rev>[^/]+)(?:/(?P<path>.*))?)?)?"
)
_RESOLVE = re.compile(r"/(?P<repo>[^/]+(?:/[^/]+)?)/resolve/(?P<rev>[^/]+)/(?P<path>.+)")
_SMALL = re.compile(r"/api/resolve-cache/models/(?P<repo>.+?)/(?P<rev>[0-9a-f]{40})/(?P<path>.+)")

#: Seconds for which a token for the Xet storage is good; clients ask anew a minute before.
_XET_TOKEN_LIFE = 3600

_EXPIRED = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
)


class Answers:
    """The repos of a Hub, and the answer to every request about them."""

    def __init__(self, accepted_token: str, page_size: int) -> None:
        """Take the token that opens gated repos and the length of one page of a tree."""
        self.accepted_token = accepted_token
        self.page_size = page_size
        self.repos: dict[str, Repo] = {}
        self.links = SignedLinks()
        self.window = RequestWindow()
        self.endpoint = self.cdn_endpoint = ""  # known once the servers run
        self.cas_url = ""  # where Xet clients find the chunks; known once a repo is of Xet

    def answer(self, request: Request) -> Reply:
        """Work out the reply of a hub or CDN in good health."""
        path = urlsplit(request.target).path
        if request.server == "cdn":
            return self._cdn(request, path)
        for pattern, handle in (
            (_SMALL, self._small),
            (_API, self._limited_api),
            (_RESOLVE, self._resolve),
        ):
            if found := pattern.fullmatch(path):
                parts = {name: unquote(text or "") for name, text in found.groupdict().items()}
                return handle(request, **parts)
        return json_reply({"error": "Not found"}, 404)

    def _cdn(self, request: Request, path: str) -> Reply:
        name = request.query("filename")
        for repo in self.repos.values():
            for commit, files in repo.commits.items():
                file = files.get(name)
                if file is None or path != f"/lfs/{file.sha256}":
                    continue
                if not self.links.belongs(request, repo.name):
                    continue
                if not self.links.holds(request, repo.name):
                    return Reply(403, {"Content-Type": "text/xml"}, make_file("", _EXPIRED))
                content = repo.contents[commit][name]
                return _blob(content, f'"{content.sha256[:32]}"')
        return Reply(404)

    def _open(
        self, request: Request, repo: str, rev: str, *, listed: bool = False
    ) -> tuple[Repo, str] | Reply:
        """Find a repo and its commit, or the error the hub gives to this caller."""
        found = self.repos.get(repo)
        if found is None and request.token is None:
            return _error(401, "Invalid username or password.", "RepoNotFound")
        if found is None:
            return _error(404, "Repository not found", "RepoNotFound")
        if found.gated and not listed and request.token != self.accepted_token:
            text = f"Access to model {repo} is restricted."
            return _error(403 if request.token else 401, text, "GatedRepo")
        commit = found.commit(rev)
        if commit is None:
            return _error(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        return found, commit

    def _limited_api(self, request: Request, repo: str, verb: str, rev: str, path: str) -> Reply:
        if self.window.admits():
            return self._api(request, repo, verb, rev, path)
        told = {"RateLimit": '"api";r=0;t=1'}
        told["RateLimit-Policy"] = '"fixed window";"api";q=500;w=300'
        return json_reply({"error": "We had to rate limit your IP."}, 429, **told)

    def _api(self, request: Request, repo: str, verb: str, rev: str, path: str) -> Reply:
        # The file list of a gated repo is open to all in the model info, not as a tree.
        found = self._open(request, repo, rev or "main", listed=verb in ("", "revision"))
        if isinstance(found, Reply):
            return found
        if verb == "tree":
            return self._tree(request, list(found[0].commits[found[1]].values()), path)
        if verb == "xet-read-token":
            return self._xet_token(found[0])
        return json_reply(model_info(*found, blobs=bool(request.query("blobs"))))

    def _tree(self, request: Request, files: list[File], folder: str) -> Reply:
        recursive = request.query("recursive").lower() in ("true", "1")
        entries = tree_entries(files, folder, recursive=recursive)
        if folder and not entries:
            return _error(404, f'"{folder}" does not exist', "EntryNotFound")
        start = int(request.query("cursor") or 0)
        stop = start + self.page_size
        if stop >= len(entries):
            return json_reply(entries[start:])
        parts = urlsplit(request.target)
        query = urlencode({**dict(parse_qsl(parts.query)), "cursor": stop})
        link = f'<{self.endpoint}{parts.path}?{query}>; rel="next"'
        return json_reply(entries[start:stop], Link=link)

    def _xet_token(self, repo: Repo) -> Reply:
        if not repo.xet:
            return _error(404, "Not a Xet repository", "RepoNotFound")
        token, until = "xet_fake", int(time.time()) + _XET_TOKEN_LIFE
        return json_reply(
            {"accessToken": token, "exp": until, "casUrl": self.cas_url},
            X_Xet_Cas_Url=self.cas_url,
            X_Xet_Access_Token=token,
            X_Xet_Token_Expiration=str(until),
        )

    def _resolve(self, request: Request, repo: str, rev: str, path: str) -> Reply:
        found = self._open(request, repo, rev)
        if isinstance(found, Reply):
            return found
        commit = found[1]
        file = found[0].commits[commit].get(path)
        if file is None:
            return _error(404, "Entry not found", "EntryNotFound", X_Repo_Commit=commit)
        marks = {"X-Repo-Commit": commit, "X-Linked-Size": str(file.size)}
        marks["X-Linked-ETag"] = f'"{file.sha256 if file.is_lfs else file.git_oid}"'
        name = quote(path, safe="")
        if not file.is_lfs:
            place = f"/api/resolve-cache/models/{repo}/{commit}/{name}"
            return Reply(307, {**marks, "Location": place}, make_file("", b"Temporary Redirect"))
        if file.xet_hash:
            route = f"{self.endpoint}/api/models/{repo}/xet-read-token/{commit}"
            marks |= {"X-Xet-Hash": file.xet_hash, "Link": f'<{route}>; rel="xet-auth"'}
        signed = f"filename={name}&{self.links.query(repo)}"
        place = f"{self.cdn_endpoint}/lfs/{file.sha256}?{signed}"
        return Reply(302, {**marks, "Location": place}, make_file("", b"Found"))

    def _small(self, request: Request, repo: str, rev: str, path: str) -> Reply:
        found = self._open(request, repo, rev)
        if isinstance(found, Reply):
            return found
        file = found[0].contents[found[1]].get(path)
        if file is None:
            return _error(404, "Entry not found", "EntryNotFound", X_Repo_Commit=rev)
        return _blob(file, f'"{file.git_oid}"', {"X-Repo-Commit": rev})


def _error(code: int, message: str, error_code: str, **headers: str) -> Reply:
    marks = {"X_Error_Code": error_code, "X_Error_Message": message}
    return json_reply({"error": message}, code, **marks, **headers)


def _blob(file: File, etag: str, headers: Headers | None = None) -> Reply:
    name = quote(file.path.rpartition("/")[2], safe="")
    shown = f"inline; filename*=UTF-8''{name}; filename=\"{name}\";"
    told = {"ETag": etag, "Content-Disposition": shown, **(headers or {})}
    return Reply(200, told, file, is_file=True)
