//! A client of the demo: a real `tenantd connect`, spoken to over its stdin and stdout as any MCP client
//! would.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::admin::ended;
use super::super::client::{Client, Trouble};
use super::super::failure::Failure;
use super::alarm::{Alarm, Part};
use super::house::House;

/// How long any one step of a client may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// tenantd's own code for "the server is not there".
const SERVER_UNAVAILABLE: i64 = 503;

/// A client session.
pub(super) struct Visitor {
    child: Child,
    process: OwnedFd,
    client: Option<Client>,
}

impl Visitor {
    /// Starts `tenantd connect TENANT`; nothing is said yet.
    pub(super) fn start(
        binary: &Path,
        house: &House,
        tenant: &str,
        alarm: &Alarm,
    ) -> anyhow::Result<Self> {
        let mut command = house.command(binary);
        command
            .args(["connect", tenant])
            .arg(format!("--{}", house.layout.mode.as_str()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(house.log()?);
        let (mut child, process) = alarm.start(Part::Client, &mut command)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let mut visitor = Self { child, process, client: None };
        let (stdin, stdout) = pipes.context("tenantd connect has no pipes")?;
        visitor.client = Some(Client::new(stdin.into(), stdout.into(), None)?);
        Ok(visitor)
    }

    /// Starts one and does the handshake.
    pub(super) fn enter(
        binary: &Path,
        house: &House,
        tenant: &str,
        alarm: &Alarm,
    ) -> anyhow::Result<Self> {
        let mut visitor = Self::start(binary, house, tenant, alarm)?;
        visitor.client()?.handshake(PATIENCE).map_err(Failure::from)?;
        Ok(visitor)
    }

    /// Tries the handshake where it must be refused; gives back the reason.
    pub(super) fn refused(&mut self) -> anyhow::Result<String> {
        match self.client()?.handshake(PATIENCE) {
            Err(Trouble::Refused(error)) => Ok(error.message),
            Err(Trouble::Lost(lost)) => Err(Failure::from(lost).into()),
            Ok(()) => bail!("it was let in"),
        }
    }

    /// Calls a tool that must succeed; gives back its text.
    pub(super) fn call(&mut self, tool: &str, arguments: &Value) -> anyhow::Result<String> {
        let arguments: Box<RawValue> = serde_json::value::to_raw_value(arguments)?;
        let called = self.client()?.call(tool, arguments, PATIENCE).map_err(Failure::from)?.parts;
        let text = called.texts().join("\n");
        if called.is_error { bail!("{tool} failed: {text}") } else { Ok(text) }
    }

    /// Calls after the server was killed. The one call that the mux had to answer for the dead server is
    /// allowed; the next must reach the new one.
    pub(super) fn call_the_restarted(&mut self, tool: &str, name: &str) -> anyhow::Result<String> {
        let arguments = serde_json::value::to_raw_value(&json!({ "name": name }))?;
        match self.client()?.call(tool, arguments, PATIENCE) {
            Ok(called) if !called.parts.is_error => Ok(called.parts.texts().join("\n")),
            Err(Trouble::Refused(error)) if error.code == SERVER_UNAVAILABLE => {
                self.call(tool, &json!({ "name": name }))
            }
            Ok(called) => bail!("{tool} failed: {}", called.parts.texts().join("\n")),
            Err(trouble) => Err(Failure::from(trouble).into()),
        }
    }

    /// Hangs up and waits for `connect` to end; gives back its exit code.
    pub(super) fn leave(mut self) -> anyhow::Result<Option<i32>> {
        self.client = None;
        if !ended(&self.process, PATIENCE)? {
            bail!("tenantd connect did not end after its client had");
        }
        Ok(self.child.wait()?.code())
    }

    fn client(&mut self) -> anyhow::Result<&mut Client> {
        self.client.as_mut().context("the client has left")
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.client = None;
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
