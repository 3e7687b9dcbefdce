"""The gateway as its operator meets it: a settings file and commands."""

import asyncio
import os
import sys
from pathlib import Path

from sources.registry import Kind
from tests.door import Door


def settings_file(folder: Path, door: Door) -> Path:
    """A gateway.toml over the running sandboxes."""
    sources = {kind.value: source.settings for kind, source in door.office.settings.sources.items()}
    crm, erp, helpdesk, documents = (
        sources[kind.value] for kind in (Kind.CRM, Kind.ERP, Kind.HELPDESK, Kind.DOCUMENTS)
    )
    path = folder / "gateway.toml"
    path.write_text(f"""
        [[signin.issuers]]
        issuer = "{door.issuer.url}"
        audience = "backoffice-gateway"
        believed_for = ["customers", "staff"]
        [sources.crm]
        vendor = "hubspot"
        private_addresses = ["127.0.0.1"]
        base_url = "{crm.base_url}"
        token = "{crm.token}"
        declared = {{ xero = "xero_contact_id" }}
        [sources.erp]
        vendor = "xero"
        private_addresses = ["127.0.0.1"]
        base_url = "{erp.base_url}"
        connections_url = "{erp.connections_url}"
        token_url = "{erp.token_url}"
        client_id = "{erp.client_id}"
        client_secret = "{erp.client_secret}"
        tenant_id = "{erp.tenant_id}"
        [sources.helpdesk]
        vendor = "zendesk"
        private_addresses = ["127.0.0.1"]
        base_url = "{helpdesk.base_url}"
        email = "{helpdesk.email}"
        api_token = "{helpdesk.api_token}"
        [sources.documents]
        vendor = "s3"
        private_addresses = ["127.0.0.1"]
        bucket = "{documents.bucket}"
        region = "{documents.region}"
        endpoint_url = "{documents.endpoint_url}"
        path_style = true
        access_key_id = "{documents.access_key_id}"
        secret_access_key = "{documents.secret_access_key}"
    """)
    return path


async def gateway(url: str, config: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Runs ``gateway ...``; its exit code and all that it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from gateway.cli import app; app()", *arguments, "--config", str(config),
        env={**os.environ, "DATABASE_URL": url, "COLUMNS": "250", **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()
