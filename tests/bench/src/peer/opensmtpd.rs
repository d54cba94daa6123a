//! OpenSMTPD, unpacked beside Postfix. Its paths are compiled in: it sees them in a mount namespace of its own.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::install::{debian, run, unpacked, user};
use super::{Place, Workshop};

pub(super) fn install(workshop: &Workshop) -> Result<()> {
    debian(&["libevent-2.1-7", "libdb5.3"])?;
    for name in ["opensmtpd", "opensmtpq"] {
        user(name)?;
    }
    unpacked(workshop, "opensmtpd", &["opensmtpd"]).map(drop)
}

pub(super) fn script(place: &Place<'_>) -> Result<String> {
    let tree = place.workshop.folder.join("peers/opensmtpd/tree");
    let folder = place.folder.display();
    for name in ["lib", "spool", "spool/smtpd", "empty"] {
        fs::create_dir_all(place.folder.join(name))?;
    }
    run("chmod", &["711", &format!("{folder}/spool/smtpd")], Path::new("/"))?;
    let action = match place.subject.relay {
        Some(relay) => format!("relay host smtp://{relay}"),
        None => "relay".to_owned(),
    };
    let text = format!(
        "listen on {} port {}\nqueue ttl 1d\naction \"out\" {action}\nmatch from any for any action \"out\"\n",
        place.address.ip(),
        place.address.port()
    );
    fs::write(place.folder.join("smtpd.conf"), text)?;
    // Held: the schedulers of mail that goes out are paused from the start.
    let hold = if place.subject.relay.is_none() { "-P mda -P mta" } else { "" };
    // An overlay shows the package's files at their place, and the spool is the fresh folder.
    let (tree, usr) = (tree.display(), tree.join("usr").display().to_string());
    Ok(format!(
        "exec unshare --mount sh -c 'mount -t overlay overlay -o lowerdir={usr}:/usr /usr && \
         mount --bind {folder}/spool /var/spool && mkdir -p /var/lib/opensmtpd/empty && \
         exec {tree}/usr/sbin/smtpd -d {hold} -f {folder}/smtpd.conf'"
    ))
}
