"""A broker with TLS, SASL SCRAM, client certificates and an authorizer, for tests: who may do what the test says.

Beside the secured listeners there is a plain one, whose clients may do everything: tests prepare things there.
"""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from brokers import Kafka, free_port
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from parts import PartMissing

DEPLOY = Path(__file__).parents[2] / "deploy"
SECURE = """\
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},{both}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},{both}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL,MUTUAL:SSL
listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location={certificate}
listener.name.mutual.ssl.client.auth=required
listener.name.mutual.ssl.keystore.type=PEM
listener.name.mutual.ssl.keystore.location={certificate}
listener.name.mutual.ssl.truststore.type=PEM
listener.name.mutual.ssl.truststore.location={ca}
listener.name.mutual.ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""


class Right(NamedTuple):
    """A line of deploy/kafka-acls.csv, one operation of it."""

    principal: str
    resource: str
    pattern: str
    name: str
    operation: str

    def __str__(self) -> str:
        return f"{self.operation} on {self.resource} {self.name}"


class Certificates:
    """An authority of its own in a folder, and certificates for 127.0.0.1 by it; made by openssl."""

    def __init__(self, folder: Path) -> None:
        if not shutil.which("openssl"):
            raise PartMissing("TLS: no `openssl` on this machine")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.ca = folder, folder / "ca.pem"
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=tests", "-keyout", "ca.key", "-out", "ca.pem",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign",
        )  # fmt: skip

    def issue(self, name: str, *, key_password: str = "") -> tuple[Path, Path]:
        """Certificate and key of `name`, good for 127.0.0.1 and localhost. key_password: of the key, if it has one."""
        protected = ["-passout", f"pass:{key_password}"] if key_password else ["-nodes"]
        self._openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *protected, "-subj", f"/CN={name}",
            "-keyout", f"{name}.key", "-out", f"{name}.csr",
        )  # fmt: skip
        (self.folder / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        self._openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-out", f"{name}.pem", "-extfile", f"{name}.ext",
        )  # fmt: skip
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True, timeout=30)


class SecuredKafka(Kafka):
    """`secure` is the address for those with a password, `mutual` for those with a certificate, whose CN is their name.

    Clients of `bootstrap` may do everything.
    """

    def __init__(self, folder: Path, certificates: Certificates, *, version: str = "4.3.1") -> None:
        super().__init__(folder, version=version, heap_mb=512)
        self.certificates, self._secure, self._mutual = certificates, free_port(), free_port()

    @property
    def secure(self) -> str:
        return f"127.0.0.1:{self._secure}"

    @property
    def mutual(self) -> str:
        return f"127.0.0.1:{self._mutual}"

    def _format(self) -> None:
        super()._format()
        certificate, key = self.certificates.issue("broker")
        both = self.certificates.folder / "broker-both.pem"
        both.write_text(key.read_text() + certificate.read_text())
        properties = self.folder / "server.properties"
        text = properties.read_text()
        controller = text.partition("CONTROLLER://127.0.0.1:")[2].partition("\n")[0]
        values = {
            "port": self.port, "controller": controller, "certificate": both, "ca": self.certificates.ca,
            "both": f"SECURE://{self.secure},MUTUAL://{self.mutual}",
        }  # fmt: skip
        properties.write_text(text + SECURE.format(**values))

    def admin(self) -> AdminClient:
        """Of somebody who may do everything."""
        return AdminClient({"bootstrap.servers": self.bootstrap})

    def add_user(self, name: str, password: str) -> None:
        """Somebody with a password, and no right."""
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        upsertion = UserScramCredentialUpsertion(name, info, password.encode())
        # Kept until the answer: it closes with its last reference.
        admin = self.admin()
        for future in admin.alter_user_scram_credentials([upsertion]).values():
            future.result(20)

    def grant(self, rights: Iterable[Right]) -> None:
        """Put rights in force."""
        admin = self.admin()
        for future in admin.create_acls([_binding(right) for right in rights]).values():
            future.result(20)

    def revoke(self, right: Right) -> None:
        """Take a right away."""
        binding = _binding(right)
        taken = AclBindingFilter(
            binding.restype, binding.name, binding.resource_pattern_type, binding.principal, binding.host,
            binding.operation, binding.permission_type,
        )  # fmt: skip
        admin = self.admin()
        for future in admin.delete_acls([taken]).values():
            assert len(future.result(20)) == 1


def rights_of(principal: str) -> list[Right]:
    """What deploy/kafka-acls.csv says that somebody needs."""
    lines = [line for line in (DEPLOY / "kafka-acls.csv").read_text().splitlines() if not line.startswith("#")]
    return [
        Right(who, resource, pattern, name, operation)
        for who, resource, pattern, names, operations, _ in csv.reader(lines)
        if who == principal
        for name in names.split()
        for operation in operations.split()
    ]


def _binding(right: Right) -> AclBinding:
    return AclBinding(
        ResourceType[right.resource.upper().replace("-", "_")],
        right.name,
        ResourcePatternType[right.pattern.upper()],
        right.principal,
        "*",
        AclOperation[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", right.operation).upper()],
        AclPermissionType.ALLOW,
    )
