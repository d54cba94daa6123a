//! OpenSMTPD from its Debian package. Its spool is always `/var/spool/smtpd`.

use std::fs;
use std::path::Path;

use super::foreign::{Ground, Recipe, add_users, bind, cover, package, version, word, words};

/// How it is run.
pub fn recipe(ground: &Ground<'_>) -> Recipe {
    let unpacked = package("opensmtpd");
    add_users(ground.work, &["opensmtpd", "opensmtpq"]);
    for over in ["/var/spool", "/var/lib", "/run", "/usr/libexec"] {
        cover(Path::new(over));
    }
    let spool = ground.disk.join("spool");
    for folder in [&spool, Path::new("/var/spool/smtpd"), Path::new("/usr/libexec/opensmtpd")] {
        fs::create_dir_all(folder).expect("a folder of ours");
    }
    fs::create_dir_all("/var/lib/opensmtpd/empty").expect("a folder of ours");
    bind(&unpacked.join("usr/libexec/opensmtpd"), Path::new("/usr/libexec/opensmtpd"));
    let conf = ground.work.join("smtpd.conf");
    let text = format!(
        "listen on 127.0.0.1 port {port} hostname opensmtpd.test
smtp limit max-mails 100000
action out relay host smtp://127.0.0.1:{next}
match from any for any action out
",
        port = ground.port,
        next = ground.next,
    );
    fs::write(&conf, text).expect("smtpd.conf");
    let program = |name: &str| word(&unpacked.join("usr/sbin").join(name));
    // The spool is bound anew at each start, when the file system below it is another one.
    let run = format!(
        "umount -l /var/spool/smtpd 2>/dev/null; mount --bind {} /var/spool/smtpd && chmod 711 /var/spool/smtpd && exec {} -d -f {}",
        spool.display(),
        program("smtpd"),
        conf.display()
    );
    Recipe {
        name: version("opensmtpd"),
        run: words(&["--mount", "sh", "-c", &run]),
        hurry: words(&[&program("smtpctl"), "schedule", "all"]),
        is_message: |path| {
            // An envelope is named by 16 digits; 8 are its message.
            path.file_name().is_some_and(|name| name.len() == 16)
        },
        queue: spool.join("queue"),
        environment: Vec::new(),
    }
}
