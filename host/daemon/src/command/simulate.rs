//! `gatepost simulate`: a session that is made up, through the configuration of the server, with everything that is decided on the
//! way. Nothing is queued, nothing is sent, and no running server is touched.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;

use super::{At, count, say, say_error};
use crate::config::Config;
use crate::scenario::lines::Lines;
use crate::scenario::play::{Setting, Theatre, Trouble};
use crate::scenario::{self, Given, Login, Script, Step, To, Visit, endpoint, print, usual_tls};
use crate::wiring;

/// What of the session is said here wins over the scenario.
#[derive(Args, Debug)]
pub(crate) struct Simulate {
    #[command(flatten)]
    at: At,
    /// Steps, and answers of DNS, kv, tables and HTTP (the format is that of `plugin test`)
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Listener by name or role: mx, submission, submissions, lmtp, local [default: mx]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The client's address, with or without a port [default: 192.0.2.1]
    #[arg(long, value_name = "ADDRESS")]
    client: Option<String>,
    /// The client's verified name; without it DNS is asked
    #[arg(long, value_name = "NAME")]
    client_name: Option<String>,
    /// What the client says in EHLO
    #[arg(long, value_name = "NAME")]
    helo: Option<String>,
    /// The connection is in TLS
    #[arg(long)]
    tls: bool,
    /// The client is logged in as this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The client logs in: NAME:PASSWORD
    #[arg(long, value_name = "LOGIN", conflicts_with = "user")]
    auth: Option<String>,
    /// The reverse-path; "" is the null one
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    /// A recipient; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    to: Vec<String>,
    /// The message; - is stdin
    #[arg(long, value_name = "FILE")]
    message: Option<PathBuf>,
    /// Ask no name server and no HTTP service: what the scenario does not have does not exist
    #[arg(long)]
    offline: bool,
    /// Print JSON, one object for each step
    #[arg(long)]
    json: bool,
}

impl Simulate {
    pub(crate) fn run(self) -> Result<()> {
        let lines = Lines::start();
        let mut config = self.at.load()?;
        // What a server makes at its first start is made elsewhere, and goes again.
        let elsewhere = tempfile::tempdir().context("a folder for the simulation")?;
        if !config.folder("login-secret").exists() {
            config.data = elsewhere.path().to_owned();
        }
        if let Some(srs) = config.srs.as_mut().filter(|srs| !srs.file.exists()) {
            srs.file = elsewhere.path().join("srs-secrets");
        }
        let mut script = self.scenario()?;
        if self.offline && script.given.dns.is_none() {
            script.given.dns = Some(String::new());
        }
        for step in &mut script.steps {
            self.change(&mut step.visit)?;
        }
        let runtime = tokio::runtime::Runtime::new()?;
        let wrong = runtime.block_on(self.play(&config, script, lines))?;
        if wrong > 0 {
            bail!("{} went otherwise than the scenario expects", count(wrong, "step"));
        }
        Ok(())
    }

    fn scenario(&self) -> Result<Played> {
        let Some(file) = &self.scenario else {
            return Ok(Played { given: Given::default(), clock: now(), steps: vec![step()] });
        };
        let scenario = scenario::load(file).map_err(|faults| {
            faults.iter().for_each(|fault| say_error(&fault.to_string()));
            anyhow!("{} in {}", count(faults.len(), "fault"), file.display())
        })?;
        let mut steps = scenario.steps;
        if steps.is_empty() {
            steps.push(step());
        }
        Ok(Played { given: scenario.given, clock: scenario.clock, steps })
    }

    /// What the command line says about the session.
    fn change(&self, visit: &mut Visit) -> Result<()> {
        if let Some(client) = &self.client {
            visit.client = endpoint(client).map_err(|fault| anyhow!("--client {fault}"))?;
        }
        visit.client_name = self.client_name.clone().or(visit.client_name.take());
        if let Some(listener) = &self.listener {
            visit.listener.clone_from(listener);
        }
        if let Some(helo) = &self.helo {
            visit.helo.clone_from(helo);
        }
        if self.tls {
            visit.tls = Some(usual_tls());
        }
        visit.user = self.user.clone().or(visit.user.take());
        if let Some(login) = &self.auth {
            let (identity, password) =
                login.split_once(':').context("--auth is written NAME:PASSWORD")?;
            visit.auth = Some(Login {
                mechanism: "PLAIN".to_owned(),
                identity: identity.to_owned(),
                password: password.to_owned(),
            });
        }
        if let Some(from) = &self.from {
            visit.from.clone_from(from);
        }
        if !self.to.is_empty() {
            let to = |address: &String| To { address: address.clone(), parameters: String::new() };
            visit.to = self.to.iter().map(to).collect();
        }
        if let Some(file) = &self.message {
            visit.message = Some(read(file)?);
        }
        Ok(())
    }

    async fn play(&self, config: &Config, script: Played, lines: Lines) -> Result<usize> {
        let setting = Setting {
            inbound: wiring::inbound(config, Arc::new(wiring::local_domains(config)?))?,
            resolver: wiring::resolver(config)?,
            tables: wiring::tables(config),
            plugins: wiring::plugins(config),
            subject: None,
            script: Script::new(script.given.clone(), script.clock, !self.offline),
            given: script.given,
            compiler: super::compiler(config.policy.compiler),
            cache: super::cache(),
            lines,
        };
        let mut theatre = Theatre::build(setting).await.map_err(|trouble| match trouble {
            Trouble::Plugins(faults) => {
                anyhow!("{}", wiring::plugin_faults(config, &faults).join("\n"))
            }
            Trouble::Other(error) => error,
        })?;
        let mut wrong = 0;
        for (n, step) in script.steps.iter().enumerate() {
            let keep = script.steps.get(n + 1).is_some_and(|next| next.same_session);
            let played = theatre.play(step, keep).await?;
            if self.json {
                say(&print::json(&played).to_string());
            } else {
                print::transcript(step, &played).iter().for_each(|line| say(line));
            }
            // Nothing is wrong about a failed call that nobody expects anything of: the transcript shows it.
            if step.expected.is_some() && !played.mismatches.is_empty() {
                print::difference(n + 1, step, &played.mismatches)
                    .iter()
                    .for_each(|line| say(line));
                wrong += 1;
            }
        }
        Ok(wrong)
    }
}

struct Played {
    given: Given,
    clock: SystemTime,
    steps: Vec<Step>,
}

fn step() -> Step {
    Step {
        name: None,
        fresh: false,
        same_session: false,
        after: std::time::Duration::ZERO,
        visit: Visit::default(),
        stop_after: None,
        expected: None,
        attempts: Vec::new(),
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut octets = Vec::new();
        std::io::stdin().read_to_end(&mut octets).context("can't read the message from stdin")?;
        return Ok(octets);
    }
    std::fs::read(file).with_context(|| format!("can't read {}", file.display()))
}

/// The time of day, where no scenario has one.
fn now() -> SystemTime {
    policy::Clock::now(&policy::SystemClock)
}
