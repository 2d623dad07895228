"""From the configuration to what the Kafka rim needs: addresses, names, TLS and SASL with their secrets.

Called by the composition roots (the worker and the commands), which pass their environment in.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from schemas.errors import ConfigurationError
from streamer.config import Loaded, Tls
from streamer.kafka.settings import KafkaSettings


def kafka_settings(
    loaded: Loaded, environment: Mapping[str, str], *, slot: str | None = None, accept_gap: bool = False
) -> KafkaSettings:
    """Settings of every Kafka client. Secrets are read here; `ConfigurationError` names the one that is not there."""
    kafka = loaded.config.kafka
    if kafka is None:
        raise loaded.fault("kafka", message="is missing: this command needs a broker")
    inputs = {name: topic for name, topic in kafka.inputs.model_dump().items() if topic is not None}
    if not inputs:
        raise loaded.fault("kafka", "inputs", message="names no topic: there is nothing to read")
    try:
        security = _security(kafka.tls, environment)
        if kafka.sasl is not None:
            security |= {
                "security_protocol": "SASL_SSL" if kafka.tls else "SASL_PLAINTEXT",
                "sasl_mechanism": kafka.sasl.mechanism,
                "sasl_plain_username": kafka.sasl.username,
                "sasl_plain_password": kafka.sasl.password.read(environment),
            }
    except ConfigurationError as error:
        raise loaded.fault("kafka", message=error.message) from error
    return KafkaSettings(
        bootstrap_servers=",".join(kafka.bootstrap_servers),
        app=kafka.app,
        topic_prefix=kafka.topic_prefix,
        inputs=inputs,
        slot=slot,
        start=loaded.config.start,
        accept_gap=accept_gap,
        security=security,
        linger_ms=kafka.linger,
        slow_linger_ms=max(500, kafka.linger),
        broker_timeout_s=kafka.broker_timeout / 1000,
        session_timeout_ms=kafka.session_timeout,
        profiles_partitions=kafka.profiles_partitions,
        batch_bytes=loaded.config.limits.batch_output,
    )


def _security(tls: Tls | None, environment: Mapping[str, str]) -> dict[str, Any]:
    if tls is None:
        return {}
    try:
        trusted = ssl.create_default_context(cafile=tls.ca_file)
        trusted.check_hostname = tls.check_hostname
        if tls.certificate_file:
            password = tls.key_password.read(environment) if tls.key_password else None
            trusted.load_cert_chain(tls.certificate_file, tls.key_file, password)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(filter(None, (tls.ca_file, tls.certificate_file, tls.key_file)))
        raise ConfigurationError(f"tls: {files}: {error.strerror or error}") from error
    return {"security_protocol": "SSL", "ssl_context": trusted}
