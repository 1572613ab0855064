"""What each path of the test Hub answers. The forms are those that `huggingface_hub` 2.4 reads."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlencode

from tests.support.hub_http import Answer, Request, Route, as_json
from tests.support.hub_repos import Blob, Commit, RefusedError, Repo, card_errors, is_lfs

__all__ = ["HUB_ROUTES", "STORAGE_ROUTES"]

_REPO = r"/api/(?P<kind>dataset|model)s/(?P<name>[^/]+/[^/]+)"
_GIT = r"/(?:(?P<kind>dataset)s/)?(?P<name>[^/]+/[^/]+)\.git/info/lfs"
_REV = r"(?P<revision>[^/]+)"


def _repo(request: Request, *, write: bool = False) -> Repo:
    kind = request.groups["kind"] or "model"
    return request.hub.find(kind, request.groups["name"], token=request.token, write=write)


def _at(request: Request) -> tuple[Repo, Commit]:
    repo = _repo(request)
    return repo, repo.resolve(request.groups["revision"] or "main")


# Reading.


def _info(request: Request) -> Answer:
    repo, commit = _at(request)
    blobs = request.query.get("blobs", "").lower() in {"true", "1"}
    log = repo.log(commit.oid)
    return as_json(
        {
            "_id": repo.name,
            "id": repo.name,
            "author": repo.name.split("/")[0],
            "sha": commit.oid,
            "private": repo.private,
            "gated": "auto" if repo.gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "createdAt": log[-1].date,
            "lastModified": commit.date,
            "siblings": [
                _sibling(path, blob, blobs=blobs) for path, blob in sorted(commit.files.items())
            ],
        }
    )


def _sibling(path: str, blob: Blob, *, blobs: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"rfilename": path}
    if blobs:
        found |= {"size": len(blob.content), "blobId": blob.oid}
        if blob.lfs:
            pointer = {"size": len(blob.content), "pointerSize": len(blob.pointer)}
            found["lfs"] = {"sha256": blob.sha256, **pointer}
    return found


def _tree(request: Request) -> Answer:
    repo, commit = _at(request)
    recursive = request.query.get("recursive", "").lower() in {"true", "1"}
    found = repo.tree(commit, request.groups["path"], recursive=recursive)
    return _page(request, _expanded(request, repo, commit, found))


def _paths_info(request: Request) -> Answer:
    repo, commit = _at(request)
    if "json" in request.headers.get("content-type", ""):
        asked = request.json()["paths"]
    else:  # `huggingface_hub` sends a form
        form = parse_qs(request.body.decode())
        asked = form.get("paths", [])
        request.query.update({"expand": form.get("expand", [""])[-1]})
    return as_json(_expanded(request, repo, commit, repo.paths(commit, asked)))


def _expanded(
    request: Request, repo: Repo, commit: Commit, found: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    if request.query.get("expand", "").lower() in {"true", "1"}:
        for entry in found:
            entry["lastCommit"] = repo.last_change(commit, entry["path"])
    return found


def _page(request: Request, found: list[dict[str, Any]]) -> Answer:
    """One page, and a link to the next as the Hub gives it."""
    start = int(request.query.get("cursor", 0))
    stop = start + request.hub.page_size
    headers = {}
    if stop < len(found):
        query = urlencode({**request.query, "cursor": stop})
        headers["Link"] = f'<{request.hub.url}{request.raw_path}?{query}>; rel="next"'
    return as_json(found[start:stop], headers=headers)


def _refs(request: Request) -> Answer:
    repo = _repo(request)

    def listed(refs: dict[str, str], kind: str) -> list[dict[str, str]]:
        return [
            {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid}
            for name, oid in refs.items()
        ]

    heads, tags = listed(repo.branches, "heads"), listed(repo.tags, "tags")
    return as_json({"branches": heads, "tags": tags, "converts": [], "pullRequests": []})


def _log(request: Request) -> Answer:
    repo, at = _at(request)
    found = [
        {
            "id": commit.oid,
            "title": commit.title,
            "message": commit.message,
            "authors": [{"user": commit.author}],
            "date": commit.date,
        }
        for commit in repo.log(at.oid)
    ]
    return _page(request, found)


def _resolve(request: Request) -> Answer:
    repo, commit = _at(request)
    if repo.gated and repo.name.split("/")[0] not in request.hub.namespaces:
        raise RefusedError(403, f"Access to {repo.name} is restricted", "GatedRepo")
    path = request.groups["path"]
    headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
    try:
        blob = repo.file(commit, path)
    except RefusedError as error:
        named = {**headers, "X-Error-Code": error.code, "X-Error-Message": "Entry not found"}
        return as_json(error.body, error.status, named)
    if blob.lfs:
        headers["X-Linked-Size"] = str(len(blob.content))
        headers["X-Linked-ETag"] = f'"{blob.etag}"'
        headers["Location"] = request.hub.link(repo, path, blob)
        return Answer(b"", 302, headers)
    return Answer(headers={**headers, "ETag": f'"{blob.etag}"'}, file=(repo.name, path, blob))


def _whoami(request: Request) -> Answer:
    hub = request.hub
    if not request.token:
        raise RefusedError(401, "Invalid username or password.")
    orgs = [
        {"type": "org", "id": name, "name": name, "fullname": name, "roleInOrg": "write"}
        for name in sorted(hub.namespaces - {hub.user})
    ]
    access = {"displayName": "test", "role": "write", "createdAt": "2024-04-01T00:00:00.000Z"}
    auth = {"type": "access_token", "accessToken": access}
    who = {"type": "user", "id": hub.user, "name": hub.user, "fullname": hub.user}
    return as_json({**who, "isPro": False, "orgs": orgs, "auth": auth})


def _may(request: Request) -> Answer:
    _repo(request, write=request.raw_path.endswith("/write"))
    return as_json({})


# Writing.


def _create(request: Request) -> Answer:
    asked = request.json()
    name = f"{asked.get('organization') or request.hub.user}/{asked['name']}"
    private = bool(asked.get("private")) or asked.get("visibility") == "private"
    kind = asked.get("type", "model")
    url = request.hub.create(kind, name, private=private, token=request.token)
    return as_json({"url": url, "name": name, "id": name})


def _delete(request: Request) -> Answer:
    asked = request.json()
    kind = asked.get("type", "model")
    name = f"{asked.get('organization') or request.hub.user}/{asked['name']}"
    request.hub.find(kind, name, token=request.token, write=True)
    del request.hub.repos[kind, name]
    return as_json({})


def _settings(request: Request) -> Answer:
    repo, asked = _repo(request, write=True), request.json()
    if "visibility" in asked:
        repo.private = asked["visibility"] == "private"
    if "gated" in asked:
        repo.gated = bool(asked["gated"])
    return as_json({"private": repo.private})


def _validate_yaml(request: Request) -> Answer:
    found = [{"message": text} for text in card_errors(request.json()["content"])]
    return as_json({"errors": found, "warnings": []}, 400 if found else 200)


def _preupload(request: Request) -> Answer:
    """Which of the files go by LFS, and what there is at their paths now."""
    import base64

    repo = _repo(request, write=True)
    _no_pull_requests(request)
    there = repo.resolve(request.groups["revision"]).files
    files = []
    for asked in request.json()["files"]:
        path = asked["path"]
        lfs = is_lfs(path, asked["size"], base64.b64decode(asked["sample"]))
        mode = "lfs" if lfs else "regular"
        entry = {"path": path, "uploadMode": mode, "shouldIgnore": False}
        files.append({**entry, "oid": there[path].etag} if path in there else entry)
    return as_json({"files": files})


def _batch(request: Request) -> Answer:
    repo, asked = _repo(request, write=True), request.json()
    if asked["operation"] != "upload":
        raise RefusedError(501, "only uploads go by LFS here; downloads are redirected")
    objects = [
        request.hub.upload_action(repo, item["oid"], item["size"]) for item in asked["objects"]
    ]
    multipart = any(item["size"] > request.hub.part_size for item in asked["objects"])
    return as_json({"transfer": "multipart" if multipart else "basic", "objects": objects})


def _verify(request: Request) -> Answer:
    _repo(request, write=True)
    asked = request.json()
    content = request.hub.objects.get(asked["oid"])
    if content is None or len(content) != asked["size"]:
        raise RefusedError(404, "the object is not there, or has another size")
    return as_json({})


def _complete(request: Request) -> Answer:
    """The end of an upload in parts; the signed parts themselves prove the right to write."""
    hub, asked = request.hub, request.json()
    found = []
    for part in asked["parts"]:
        content = hub.parts.get((asked["oid"], part["partNumber"]))
        if content is None or part["etag"] != f'"{part["partNumber"]}-{len(content)}"':
            raise RefusedError(400, f"part {part['partNumber']} did not come whole")
        found.append(content)
    hub.store(asked["oid"], b"".join(found))
    return as_json({})


def _commit(request: Request) -> Answer:
    hub, repo = request.hub, _repo(request, write=True)
    _no_pull_requests(request)
    lines = [line for line in request.body.splitlines() if line.strip()]
    with hub.lock:
        made = repo.apply(request.groups["revision"], lines, hub.objects, hub.user)
    url = f"{hub.url}/{repo.type}s/{repo.name}/commit/{made.oid}"
    return as_json({"success": True, "commitOid": made.oid, "commitUrl": url, "hookOutput": ""})


def _no_pull_requests(request: Request) -> None:
    if request.query.get("create_pr"):
        raise RefusedError(501, "the test Hub has no pull requests")


def _new_ref(request: Request) -> Answer:
    repo, asked = _repo(request, write=True), request.json() if request.body else {}
    if "/tag/" in request.raw_path:
        refs, name, start = repo.tags, asked["tag"], request.groups["ref"]
    else:
        refs, name, start = repo.branches, request.groups["ref"], asked.get("startingPoint", "main")
    oid = repo.resolve(start).oid
    with request.hub.lock:
        if name in refs:
            raise RefusedError(409, f"Reference already exists: {name}")
        refs[name] = oid
    return as_json({})


def _no_ref(request: Request) -> Answer:
    repo, name = _repo(request, write=True), request.groups["ref"]
    refs = repo.tags if "/tag/" in request.raw_path else repo.branches
    if name == "main" and refs is repo.branches:
        raise RefusedError(403, "main cannot be deleted")
    if name not in refs:
        raise RefusedError(404, f"Invalid rev id: {name}", "RevisionNotFound")
    del refs[name]
    return as_json({})


# The storage: links are signed, and a token is one authorisation too many, as in S3.


def _signed(request: Request, oid: str) -> None:
    if "authorization" in request.headers:
        raise RefusedError(400, "Only one auth mechanism allowed")
    if request.query.get("signature") != request.hub.sign(oid):
        raise RefusedError(403, "Request has expired, or its signature does not match")


def _object(request: Request) -> Answer:
    oid = request.groups["oid"]
    _signed(request, oid)
    blob = Blob(request.hub.objects[oid], lfs=True)
    headers = {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"}
    return Answer(headers=headers, file=(request.groups["name"], request.groups["path"], blob))


def _put(request: Request) -> Answer:
    oid, part = request.groups["oid"], request.groups["part"]
    _signed(request, oid)
    if not part:
        request.hub.store(oid, request.body)
        return Answer()
    request.hub.parts[oid, int(part)] = request.body
    return Answer(headers={"ETag": f'"{int(part)}-{len(request.body)}"'})


HUB_ROUTES: list[tuple[str, str, Route]] = [
    ("GET", "/api/whoami-v2", _whoami),
    ("POST", "/api/validate-yaml", _validate_yaml),
    ("POST", "/api/repos/create", _create),
    ("DELETE", "/api/repos/delete", _delete),
    ("GET", rf"{_REPO}(?:/revision/{_REV})?", _info),
    ("GET", rf"{_REPO}/tree/{_REV}(?:/(?P<path>.*))?", _tree),
    ("POST", rf"{_REPO}/paths-info/{_REV}", _paths_info),
    ("GET", rf"{_REPO}/refs", _refs),
    ("GET", rf"{_REPO}/commits/{_REV}", _log),
    ("GET", rf"{_REPO}/auth-check(?:/write)?", _may),
    ("PUT", rf"{_REPO}/settings", _settings),
    ("POST", rf"{_REPO}/preupload/{_REV}", _preupload),
    ("POST", rf"{_REPO}/commit/{_REV}", _commit),
    ("POST", rf"{_REPO}/(?:branch|tag)/(?P<ref>[^/]+)", _new_ref),
    ("DELETE", rf"{_REPO}/(?:branch|tag)/(?P<ref>[^/]+)", _no_ref),
    ("POST", rf"{_GIT}/objects/batch", _batch),
    ("POST", rf"{_GIT}/verify", _verify),
    ("POST", rf"{_GIT}/complete", _complete),
    (
        "GET",
        rf"/(?:(?P<kind>dataset)s/)?(?P<name>[^/]+/[^/]+)/resolve/{_REV}/(?P<path>.+)",
        _resolve,
    ),
]

STORAGE_ROUTES: list[tuple[str, str, Route]] = [
    ("GET", r"/(?P<oid>[0-9a-f]{64})/\w+/(?P<name>[^/]+/[^/]+)/(?P<path>.+)", _object),
    ("PUT", r"/upload/(?P<oid>[0-9a-f]{64})(?:/(?P<part>\d+))?", _put),
]
