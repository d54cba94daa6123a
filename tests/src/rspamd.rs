//! An rspamd of the test's own, with Debian's configuration, a folder and ports of its own, and no Redis.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::foreign::Foreign;
use crate::place::{eventually, free_port};
use crate::process::{Process, run};

/// A running rspamd. Besides its own rules it does what the header fields of a test want: `X-Wanted: ACTION`,
/// and `X-Milter: VALUE`, which becomes a field `X-Rspamd-Says` at the top.
pub struct Rspamd {
    // Before the folder: fields are dropped in order.
    process: Process,
    _folder: TempDir,
    port: u16,
}

impl Rspamd {
    /// Starts one on free ports of 127.0.0.1.
    pub fn start(rspamd: &Foreign) -> Self {
        let folder = tempfile::Builder::new().prefix("rspamd-").tempdir().expect("a folder");
        let here = folder.path();
        for name in ["conf/local.d", "conf/override.d", "db", "run", "log"] {
            fs::create_dir_all(here.join(name)).expect("a folder in our own");
        }
        let (port, controller) = (free_port(), free_port());
        let files = [
            (
                "local.d/worker-normal.inc",
                format!("bind_socket = \"127.0.0.1:{port}\";\ncount = 1;\n"),
            ),
            (
                "local.d/worker-controller.inc",
                format!("bind_socket = \"127.0.0.1:{controller}\";\n"),
            ),
            ("local.d/worker-proxy.inc", "enabled = false;\n".to_owned()),
            ("local.d/logging.inc", "type = \"console\";\nlevel = \"info\";\n".to_owned()),
            // Nobody is asked: a test needs no network.
            (
                "local.d/options.inc",
                "dns { nameserver = [\"127.0.0.1:1\"]; timeout = 0.1s; retransmits = 1; }\n"
                    .to_owned(),
            ),
            // An action of the administrator's own, which no score reaches.
            ("local.d/actions.conf", "discard = 1000;\n".to_owned()),
            ("rspamd.local.lua", WISHES.to_owned()),
        ];
        for (name, text) in files {
            fs::write(here.join("conf").join(name), text).expect("a file in our own folder");
        }
        let mut command = Command::new(&rspamd.path);
        command.args(["-f", "-i", "-c", "/etc/rspamd/rspamd.conf"]);
        for (name, place) in
            [("LOCAL_CONFDIR", "conf"), ("DBDIR", "db"), ("RUNDIR", "run"), ("LOGDIR", "log")]
        {
            command.arg(format!("--var={name}={}", here.join(place).display()));
        }
        let mut process = Process::start("rspamd", &mut command, &here.join("out"));
        eventually("rspamd", || {
            assert!(process.ended().is_none(), "rspamd ended: {}", process.log());
            let url = format!("http://127.0.0.1:{port}/ping");
            let answer = run(Path::new("curl"), ["--silent", "--max-time", "2", &url]);
            answer.stdout.starts_with("pong").then_some(())
        });
        Self { process, _folder: folder, port }
    }

    /// The URL of its normal worker.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

const WISHES: &str = r"
rspamd_config:register_symbol{
  name = 'WANTED', type = 'prefilter', priority = 10,
  callback = function(task)
    local wanted = task:get_header('X-Wanted')
    if wanted then task:set_pre_result(wanted, 'as wanted', 'test') end
    local value = task:get_header('X-Milter')
    if value then
      task:set_milter_reply({
        add_headers = { ['X-Rspamd-Says'] = { value = value, order = 0 } },
        remove_headers = { ['X-Milter'] = 0 },
      })
    end
    return wanted and true or false
  end,
}
";
