//! Makes archives for the tests.

use miniz_oxide::deflate::compress_to_vec;

/// A zip of these files; those called like archives are stored, the others deflated.
pub(super) fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    pack(files, 0)
}

/// A zip with one file that says it is encrypted.
pub(super) fn encrypted_zip(name: &str) -> Vec<u8> {
    pack(&[(name, b"secret")], 1)
}

fn pack(files: &[(&str, &[u8])], flags: u16) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, octets) in files {
        let method: u16 = if name.ends_with(".zip") { 0 } else { 8 };
        let packed = if method == 0 { octets.to_vec() } else { compress_to_vec(octets, 6) };
        let offset = u32::try_from(archive.len()).unwrap();
        let mut common = Vec::new();
        common.extend(20_u16.to_le_bytes());
        common.extend(flags.to_le_bytes());
        common.extend(method.to_le_bytes());
        // Time, date and checksum: nobody looks.
        common.extend([0; 8]);
        common.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
        common.extend(u32::try_from(octets.len()).unwrap().to_le_bytes());
        common.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        common.extend(0_u16.to_le_bytes());

        archive.extend(b"PK\x03\x04");
        archive.extend(&common);
        archive.extend(name.as_bytes());
        archive.extend(packed);

        directory.extend(b"PK\x01\x02");
        directory.extend(20_u16.to_le_bytes());
        directory.extend(common);
        // Comment, disk and attributes.
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let offset = u32::try_from(archive.len()).unwrap();
    let count = u16::try_from(files.len()).unwrap();
    archive.extend(&directory);
    archive.extend(b"PK\x05\x06\0\0\0\0");
    archive.extend(count.to_le_bytes());
    archive.extend(count.to_le_bytes());
    archive.extend(u32::try_from(directory.len()).unwrap().to_le_bytes());
    archive.extend(offset.to_le_bytes());
    archive.extend([0, 0]);
    archive
}

/// A tar of these files; longer names as GNU writes them.
pub(super) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, octets) in files {
        if name.len() > 100 {
            entry(&mut archive, "././@LongLink", b'L', name.as_bytes());
        }
        entry(&mut archive, name.get(..100).unwrap_or(name), b'0', octets);
    }
    archive.extend([0; 1024]);
    archive
}

fn entry(archive: &mut Vec<u8>, name: &str, kind: u8, octets: &[u8]) {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[124..135].copy_from_slice(format!("{:011o}", octets.len()).as_bytes());
    header[156] = kind;
    header[257..262].copy_from_slice(b"ustar");
    archive.extend(header);
    archive.extend(octets);
    archive.extend(vec![0; octets.len().next_multiple_of(512) - octets.len()]);
}

/// A gzip with this name in it, or none.
pub(super) fn gzip(name: &str, octets: &[u8]) -> Vec<u8> {
    let mut archive = vec![0x1f, 0x8b, 8, if name.is_empty() { 0 } else { 8 }, 0, 0, 0, 0, 0, 3];
    if !name.is_empty() {
        archive.extend(name.as_bytes());
        archive.push(0);
    }
    archive.extend(compress_to_vec(octets, 6));
    archive.extend([0; 8]);
    archive
}
