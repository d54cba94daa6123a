//! The certificate that a first start makes for itself.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{CertifiedFiles, TlsError};

/// A self-signed certificate for these names in `directory`: `cert.pem` and `key.pem`, the key readable by its
/// owner only. They are made once and used again afterwards, so that who has pinned the certificate keeps it; to
/// have new ones, delete them.
pub fn self_signed(directory: &Path, names: &[String]) -> Result<CertifiedFiles, TlsError> {
    let files = CertifiedFiles {
        certificate: directory.join("cert.pem"),
        key: directory.join("key.pem"),
        names: Vec::new(),
    };
    if files.certificate.exists() && files.key.exists() {
        return Ok(files);
    }
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| TlsError::Content {
        path: files.certificate.clone(),
        fault: format!("cannot be made for the names {names:?}: {error}"),
    })?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::File { action: "cannot write", path, source }
    };
    fs::create_dir_all(directory).map_err(failed(directory))?;
    // The certificate is written last and an old one goes first: whatever interrupts this, there is never a
    // certificate beside the key of another.
    remove(&files.certificate).map_err(failed(&files.certificate))?;
    write(&files.key, made.signing_key.serialize_pem().as_bytes(), 0o600)
        .map_err(failed(&files.key))?;
    write(&files.certificate, made.cert.pem().as_bytes(), 0o644)
        .map_err(failed(&files.certificate))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed(directory))?;
    Ok(files)
}

/// The whole file or none: under another name first.
fn write(path: &Path, octets: &[u8], mode: u32) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    // Not opened but made, so that the mode holds from the first octet.
    remove(&unfinished)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished)?;
    file.write_all(octets)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
