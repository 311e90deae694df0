"""What surrounds a deployment: certificates, who may ask what, what is said when a server is not there."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from fedsep.cli.entry import invoke
from fedsep.cli.flowers import numbers
from fedsep.core import FedSepError
from fedsep.flower.certificates import require_private
from fedsep.flower.guard import PROGRAMS, allowed, replaced
from fedsep.flower.programs import Programs, end, free_port, require_free
from fedsep.flower.reaching import address_of, require_server
from fedsep.flower.serving import Place

needs_flower = pytest.mark.skipif(
    find_spec("flwr") is None, reason="Flower is not installed: pip install 'fedsep[flower]'"
)


@pytest.mark.parametrize(("text", "found"), [("0-2,7", (0, 1, 2, 7)), ("3", (3,)), (None, None)])
def test_numbers_of_clients(text, found):
    assert numbers(text) == found


@pytest.mark.parametrize("text", ["", "a", "1-", "3-1", "1,1", "0-2,2", "-1", "0-99999999999"])
def test_numbers_that_cannot_be_read(text):
    with pytest.raises(FedSepError, match="--clients: must"):
        numbers(text)


@pytest.mark.parametrize(
    ("path", "client", "yes"),
    [
        ("/v1/fleet/pull-messages", ("10.0.0.9", 1), True),
        ("/health", ("10.0.0.9", 1), True),
        ("/v1/control/start-run", ("10.0.0.9", 1), False),
        ("/v1/control/register-node", ("10.0.0.9", 1), False),
        ("/v1/runtime/pull-task-input", ("10.0.0.9", 1), False),
        ("/docs", ("10.0.0.9", 1), False),
        ("/v1/control/start-run", ("127.0.0.1", 1), True),
        ("/v1/control/start-run", ("::1", 1), True),
        ("/v1/control/start-run", ("::ffff:127.0.0.1", 1), True),
        ("/v1/control/start-run", ("::ffff:10.0.0.9", 1), False),
        ("/v1/control/start-run", None, False),
    ],
)
def test_other_machines_reach_what_sites_need_and_no_more(path, client, yes):
    assert allowed(path, client) is yes


@pytest.mark.parametrize(
    ("client", "server", "yes"),
    [
        (("10.0.0.1", 5), ("10.0.0.1", 8443), True),
        (("::ffff:10.0.0.1", 5), ("10.0.0.1", 8443), True),
        (("10.0.0.9", 5), ("10.0.0.1", 8443), False),
        (("testclient", 5), ("testclient", 8443), False),
        (None, None, False),
    ],
)
def test_the_servers_own_machine_may_call_at_any_of_its_addresses(client, server, yes):
    assert allowed("/v1/control/start-run", client, server) is yes


def test_a_release_without_the_names_that_are_replaced_is_not_started():
    with pytest.raises(SystemExit, match="json has no such_name: fedsep does not know this release of Flower"):
        replaced("json", "such_name", None)


@needs_flower
def test_the_names_that_are_replaced_are_there():
    names = {
        "flwr.superlink.main": ["_get_middleware"],
        "flwr.superlink.runtime.run_serverapp": ["run_", "install_app_dependencies"],
        "flwr.supernode.runtime.run_clientapp": [
            "install_from_fab",
            "install_app_dependencies",
            "get_load_client_app_fn",
        ],
    }
    assert all(callable(getattr(import_module(module), name)) for module, own in names.items() for name in own)


@needs_flower
def test_a_node_runs_its_own_app_whatever_the_server_sent(tmp_path, monkeypatch):
    """Flower's own function loads and calls the app; the server's would be imported from what was unpacked."""
    import flwr.supernode.cli as programs

    client = import_module("flwr.supernode.runtime.run_clientapp")

    from fedsep.flower.reception import Reception
    from fedsep.flower.rules import Rules

    for name in ("install_from_fab", "install_app_dependencies", "get_load_client_app_fn"):
        monkeypatch.setattr(client, name, getattr(client, name))
    loaded = []

    def program():
        client.install_from_fab(b"a program of the server's", skip_prompt=True)
        loaded.append(client.get_load_client_app_fn(default_app_ref="", app_path=None, multi_app=True)("a", "b", "c"))

    monkeypatch.setattr(programs, "flwr_clientapp", program)
    monkeypatch.setenv("FEDSEP_FLOWER_SITE", str(Reception(Rules(tmp_path), tmp_path / "state").save()))
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "home"))
    PROGRAMS["flwr-clientapp"]()
    assert type(loaded[0]).__name__ == "ClientApp"
    assert not (tmp_path / "home").exists()


def test_flowers_programs_call_nobody_and_find_ours_first(tmp_path):
    with Programs(tmp_path / "state", {"MORE": "yes"}) as programs:
        environment = programs.environment
        assert {environment[name] for name in ("FLWR_TELEMETRY_ENABLED", "RAY_USAGE_STATS_ENABLED")} == {"0"}
        assert environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
        assert environment["FLWR_DISABLE_UPDATE_CHECK"] == environment["HF_HUB_OFFLINE"] == "1"
        assert environment["FLWR_HOME"].startswith(str(tmp_path))
        assert environment["MORE"] == "yes"
        found = programs.call(["sh", "-c", "command -v flwr-clientapp"]).stdout.strip()
        assert found == str(tmp_path / "state/bin/flwr-clientapp")
        assert "fedsep.flower.guard flwr-clientapp" in Path(found).read_text()


def test_a_program_that_ended_is_told_with_the_end_of_its_log(tmp_path):
    with Programs(tmp_path) as programs:
        programs.start("doomed", [sys.executable, "-c", "print('first'); raise SystemExit('no such thing')"]).wait(30)
        with pytest.raises(FedSepError, match=r"doomed ended \(exit code 1\):\nfirst\nno such thing"):
            programs.require("doomed")
        sleeping = programs.start("sleeping", [sys.executable, "-c", "import time; time.sleep(600)"])
        end(sleeping)
        assert sleeping.poll() is not None


def test_a_port_in_use_is_said_before_anything_starts():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(FedSepError, match=r"--port: 127.0.0.1:\d+ cannot be listened at"):
            require_free("127.0.0.1", taken.getsockname()[1])
    require_free("127.0.0.1", free_port())


@pytest.mark.parametrize("server", ["host", "host:", ":80", "host:0", "host:99999", "host:x"])
def test_addresses_that_cannot_be_read(server):
    with pytest.raises(FedSepError, match="--server: must be HOST:PORT"):
        address_of(server)


@contextmanager
def answering(reply: bytes, certs=None):
    """A server of one answer."""
    listener = socket.create_server(("0.0.0.0", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                if certs is not None:
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(certs / "server.pem", certs / "server.key")
                    connection = context.wrap_socket(connection, server_side=True)
                connection.recv(1000)
                connection.sendall(reply)
            except OSError:
                pass
            finally:
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


OLD = b"\x00\x00\x12\x04\x00\x00\x00\x00\x00"  # the first frame of a server before flwr 1.40


@needs_flower
def test_who_answers_is_looked_at_before_anything_starts(tmp_path):
    from fedsep.flower.certificates import make

    make(tmp_path / "a", ["server.example"], ["site1"], 3)
    make(tmp_path / "b", [], [], 3)
    authority = tmp_path / "a/ca.crt"
    with answering(b"HTTP/1.1 404 Not Found\r\n\r\n", tmp_path / "a") as server:
        require_server(server, authority)
        with pytest.raises(FedSepError, match="certificate is not accepted"):
            require_server(server, tmp_path / "b/ca.crt")
        with pytest.raises(FedSepError, match="certificate is not accepted"):
            require_server(server.replace("127.0.0.1", "127.0.0.2"), authority)
        with pytest.raises(FedSepError, match=r"not the network transport of flwr 1\.40 and later"):
            require_server(server, None)
    with answering(b"HTTP/1.1 200 OK\r\n\r\n") as server:
        require_server(server, None)
        with pytest.raises(FedSepError, match="no TLS there"):
            require_server(server, authority)
    with answering(OLD) as server, pytest.raises(FedSepError, match=r"not the network transport of flwr 1\.40"):
        require_server(server, None)
    with pytest.raises(FedSepError, match="no server can be reached there"):
        require_server(f"127.0.0.1:{free_port()}", None)


@needs_flower
def test_certificates_are_made_once_and_secrets_are_the_owners(tmp_path, capsys):
    arguments = ["flower", "certs", "--out", str(tmp_path / "certs"), "--host", "10.1.2.3", "--nodes", "3"]
    assert invoke(arguments) == 0
    files = sorted(str(file.relative_to(tmp_path / "certs")) for file in (tmp_path / "certs").rglob("*.*"))
    assert files == ["ca.crt", "ca.key", *(f"nodes/site{n}.pub" for n in (1, 2, 3)), "server.key", "server.pem"]
    for secret in ("ca.key", "server.key", "nodes/site1"):
        assert (tmp_path / "certs" / secret).stat().st_mode & 0o077 == 0
    assert len(Place("0.0.0.0", 1, tmp_path / "certs").nodes()) == 3
    capsys.readouterr()
    assert invoke(arguments) == 2
    assert "is there already" in capsys.readouterr().err


def encrypted(pem):
    from cryptography.hazmat.primitives import serialization as s

    how = s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"secret")
    return s.load_pem_private_key(pem, None).private_bytes(*how)


@needs_flower
def test_certificates_and_keys_that_are_wrong_are_told_by_name(tmp_path):
    for name in ("own", "other"):
        assert invoke(["flower", "certs", "--out", str(tmp_path / name), "--nodes", "1"]) == 0
    own, place = tmp_path / "own", Place("0.0.0.0", 1, tmp_path / "own")
    good = (own / "server.key").read_bytes()
    (own / "server.key").write_bytes((tmp_path / "other/server.key").read_bytes())
    with pytest.raises(FedSepError, match=r"--certs: .*server\.key is not the key of .*server\.pem"):
        place.nodes()
    (own / "server.key").write_bytes(b"garbage")
    with pytest.raises(FedSepError, match=r"a file cannot be read .*server\.key"):
        place.nodes()
    (own / "server.key").write_bytes(good)
    whole = (own / "ca.crt").read_bytes()
    (own / "ca.crt").write_bytes(b"garbage")
    with pytest.raises(FedSepError, match=r"a file cannot be read .*ca\.crt"):
        place.nodes()
    (own / "ca.crt").write_bytes(whole)
    (own / "nodes/site1.pub").rename(own / "site1.pub")
    with pytest.raises(FedSepError, match="no node may call"):
        place.nodes()
    require_private(own / "nodes/site1")
    for wrong, told in ((own / "site1.pub", "is a public key"), (own / "server.key", "holds no private key")):
        with pytest.raises(FedSepError, match=rf"--key: .* {told}"):
            require_private(wrong)
    (own / "server.key").write_bytes(encrypted(good))
    with pytest.raises(FedSepError, match=r"server\.key has a passphrase"):
        place.nodes()
    (own / "server.key").write_bytes(good)
    (own / "ca.crt").write_bytes((tmp_path / "other/ca.crt").read_bytes())
    with pytest.raises(FedSepError, match=r"server\.pem was not issued by .*ca\.crt"):
        place.nodes()


def test_a_host_that_is_not_this_machine_s_is_not_blamed_on_the_port():
    with pytest.raises(FedSepError, match=r"--host: 192\.0\.2\.1:18477 cannot be listened at"):
        require_free("192.0.2.1", 18477)
    with pytest.raises(FedSepError, match=r"--host: nohost\.invalid is no address of this machine"):
        require_free("nohost.invalid", 18477)


@needs_flower
@pytest.mark.parametrize(
    ("option", "value"),
    [("--host", "ü.example"), ("--host", ""), ("--host", "a b"), ("--days", "10000000"), ("--host", "x" * 300)],
)
def test_certificates_that_cannot_be_made_are_refused(tmp_path, capsys, option, value):
    assert invoke(["flower", "certs", "--out", str(tmp_path / "certs"), option, value]) == 2
    assert f"{option}: must be" in capsys.readouterr().err
    assert not (tmp_path / "certs").exists()


def test_an_authority_that_is_no_certificate_is_said_to_be(tmp_path):
    (tmp_path / "ca.crt").write_text("no certificate")
    with pytest.raises(FedSepError, match=r"--ca: .*ca\.crt: no certificate in PEM form"):
        require_server(f"127.0.0.1:{free_port()}", tmp_path / "ca.crt")


def test_a_server_without_certificates_is_not_started(tmp_path):
    with pytest.raises(FedSepError, match=r"lacks ca.crt, server.pem, server.key \(fedsep flower certs makes them\)"):
        Place("0.0.0.0", 1, tmp_path).nodes()
    assert Place("::", 8443, None).here == "127.0.0.1:8443"


@needs_flower
def test_a_recipe_is_simulated_with_the_result_of_a_plain_run(tmp_path, capsys):
    common = ["quickstart", "--set", "rounds=2", "--quiet", "--json"]
    assert invoke(["flower", "simulate", *common, "--nodes", "3", "--out", str(tmp_path / "a")]) == 0
    assert invoke(["run", *common, "--out", str(tmp_path / "b")]) == 0
    for method in ("fedavg", "fedsep_linear"):
        models = [(tmp_path / run / method / "seed0/model.safetensors").read_bytes() for run in "ab"]
        assert models[0] == models[1]


def test_a_look_at_a_sites_data(tmp_path, capsys):
    (tmp_path / "data.yaml").write_text("{use: fedsep.data.digits, clients: 2}")
    arguments = ["flower", "client", "--data", str(tmp_path), "--check"]
    assert invoke([*arguments, "--clients", "3,8", "--max-steps", "9", "--max-seconds", "2.5"]) == 0
    said = capsys.readouterr().out
    assert "inputs of 1 x 8 x 8" in said
    assert "client 3: 719 training" in said
    assert "client 8: 719 training" in said
    assert "a client's part of a round: 9 steps, 2.5 s" in said
    assert invoke([*arguments, "--clients", "3"]) == 2
    assert "--clients must name 2, as the site's data have (got 1)" in capsys.readouterr().err
    calls = ["flower", "client", "--data", str(tmp_path), "--server", "127.0.0.1:1", "--insecure"]
    assert invoke([*calls, "--clients", "3"]) == 2  # before anybody is called
    assert "--clients must name 2, as the site's data have (got 1)" in capsys.readouterr().err
    assert invoke([word for word in calls if word != "--insecure"]) == 2  # who a site is has to be shown
    assert "--key: this site's private key is missing" in capsys.readouterr().err
    (tmp_path / "data.yaml").write_text("{use: fedsep.data.digts}")
    assert invoke(arguments) == 2
    assert (
        "data.yaml: data.use: there is no fedsep.data.digts (did you mean fedsep.data.digits?)"
        in capsys.readouterr().err
    )


def test_a_look_at_a_table_shows_its_columns(tmp_path, capsys):
    rows = ["age,sex,smokes,note,outcome", "61,f,true,a,yes", "48,m,false,b,no", "70,,true,c,yes", "35,f,false,d,no"]
    (tmp_path / "patients.csv").write_text("\n".join(rows))
    table = "{use: fedsep.data.csv, path: patients.csv, target: outcome, drop: [note], clients: 1}"
    (tmp_path / "data.yaml").write_text(table)
    assert invoke(["flower", "client", "--data", str(tmp_path), "--check"]) == 0
    said = capsys.readouterr().out
    assert "targets int64" in said
    for line in (
        "column age: int64, 4 different values",
        "column sex: string, 3 different values, 1 missing",
        "column smokes: bool, 2 different values",
        "column note: left out, string",
        "column outcome: the target, string, 2 different values",
    ):
        assert line in said
    (tmp_path / "data.yaml").write_bytes(b"\xff")
    assert invoke(["flower", "client", "--data", str(tmp_path), "--check"]) == 2
    assert "data.yaml: cannot be read: it is not UTF-8" in capsys.readouterr().err
    (tmp_path / "data.yaml").write_text(table.replace("patients", "nobody"))
    assert invoke(["flower", "client", "--data", str(tmp_path), "--check"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{tmp_path / 'data.yaml'}: data.path: must be a file")


def test_a_recipe_whose_data_are_at_sites_is_checked_on_blank_examples_and_not_run_elsewhere(tmp_path, capsys):
    text = "{use: fedsep.algorithms.fedavg, lr: 0.1, steps: 1, batch_size: 4}"
    (tmp_path / "r.yaml").write_text(
        "rounds: 1\ndata: {use: fedsep.data.sites, shape: [3], classes: 2, clients: 3}\n"
        f"model: {{use: fedsep.models.mlp, hidden: [4]}}\nmethod: {text}\n"
    )
    assert invoke(["check", str(tmp_path / "r.yaml")]) == 0
    said = capsys.readouterr()
    assert "measured on blank examples" in said.err
    assert "208" in said.out  # 26 numbers of 8 bytes
    assert invoke(["run", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "out")]) == 2
    assert "the data are at their sites (fedsep.data.sites): start this run by" in capsys.readouterr().err


def test_a_client_without_what_it_needs_is_not_started(tmp_path, capsys):
    assert invoke(["flower", "client", "--data", str(tmp_path / "nowhere")]) == 2
    assert "--data: there is no folder" in capsys.readouterr().err


def test_without_flower_it_is_said_how_to_get_it(tmp_path):
    program = """if True:
        import sys
        from importlib import metadata
        real = metadata.version
        def version(name):
            if name == "flwr":
                raise metadata.PackageNotFoundError(name)
            return real(name)
        metadata.version, sys.modules["flwr"] = version, None
        from fedsep.cli.entry import invoke
        sys.exit(invoke(["flower", "simulate", "quickstart", "--out", sys.argv[1]]))
    """
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, env=os.environ, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "Flower is not installed: pip install 'fedsep[flower]'\n"
