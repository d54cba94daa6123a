//! From the octets of a component to machine code, and the cache of it.
//!
//! The compiler runs in a child ([`child`]); the server loads what the child made, and nothing else. Machine code from a file is as powerful as this program. So the cache lies in a directory that only this user may
//! enter, and each file carries an authentication code under a key that lies beside the state: what was changed, cut or
//! put there by somebody else is refused and compiled again.

mod child;

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::error::Error;
use crate::host::Clock;

pub use child::{Compiler, CompilerChild, CompilerLimits, serve_compiler};

/// Compiled components on disk.
pub(crate) struct Cache {
    directory: PathBuf,
    key: [u8; 32],
    /// One at a time: however many components want to be compiled, mail keeps the rest of the machine.
    compiler: Mutex<Compiler>,
    /// What the compiler gave up on lately, and why: a reload does not spend the same minute again.
    refused: Mutex<HashMap<[u8; 32], (Duration, String)>>,
    clock: Arc<dyn Clock>,
}

impl Cache {
    /// Opens or makes the cache; `key` is a file that only we can read.
    pub(crate) fn open(
        directory: &Path,
        key: &Path,
        compiler: Compiler,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        private_directory(directory)?;
        let fault = |source| Error::Directory {
            what: "cannot use the key of the plugin cache",
            path: key.into(),
            source,
        };
        let key = read_or_make_key(key).map_err(fault)?;
        let (compiler, refused) = (Mutex::new(compiler), Mutex::default());
        Ok(Self { directory: directory.into(), key, compiler, refused, clock })
    }

    /// The machine code of a component, from the cache or from the compiler. Takes up to seconds: not for a thread that
    /// others wait for.
    pub(crate) fn component(
        &self,
        engine: &Engine,
        wasm: &[u8],
        digest: &[u8; 32],
    ) -> Result<Component, String> {
        let path = self.directory.join(format!("{}-{}.cwasm", hex(digest), compatibility(engine)));
        if let Some(code) = self.read(&path, digest)
            && let Ok(component) = load(engine, &code)
        {
            return Ok(component);
        }
        check(wasm)?;
        let code = self.compile(engine, wasm, digest)?;
        if let Err(error) = self.write(&path, digest, &code) {
            tracing::warn!(path = %path.display(), %error, "cannot keep a compiled plugin");
        }
        load(engine, &code)
    }

    fn compile(&self, engine: &Engine, wasm: &[u8], digest: &[u8; 32]) -> Result<Vec<u8>, String> {
        let compiler = self.compiler.lock().unwrap_or_else(PoisonError::into_inner);
        let child = match &*compiler {
            Compiler::Here => return compile(engine, wasm),
            Compiler::Child(child) => child,
        };
        let now = self.clock.monotonic();
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|_, (since, _)| now.saturating_sub(*since) < REMEMBERED);
        if let Some((_, why)) = refused.get(digest) {
            return Err(why.clone());
        }
        child.compile(wasm).inspect_err(|why| {
            refused.insert(*digest, (now, why.clone()));
        })
    }

    fn read(&self, path: &Path, digest: &[u8; 32]) -> Option<Vec<u8>> {
        let mut stored = std::fs::read(path).ok()?;
        let code = stored.split_off(CODE_OCTETS.min(stored.len()));
        if self.code_for(path, digest, &code).verify_slice(&stored).is_err() {
            tracing::warn!(path = %path.display(), "a compiled plugin was changed on disk; it is compiled again");
            return None;
        }
        Some(code)
    }

    fn write(&self, path: &Path, digest: &[u8; 32], code: &[u8]) -> std::io::Result<()> {
        let draft = path.with_extension(format!("{:016x}.draft", getrandom::u64()?));
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(&self.code_for(path, digest, code).finalize().into_bytes())?;
        file.write_all(code)?;
        drop(file);
        std::fs::rename(&draft, path)
    }

    /// The name is part of what is authenticated: a good file under another name is refused.
    fn code_for(&self, path: &Path, digest: &[u8; 32], code: &[u8]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        mac.update(&(name.len() as u64).to_le_bytes());
        mac.update(name);
        mac.update(digest);
        mac.update(code);
        mac
    }
}

/// The one place where a compiler runs.
fn compile(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, String> {
    check(wasm)?;
    engine.precompile_component(wasm).map_err(|error| format!("does not compile: {error:#}"))
}

/// What can be seen without a compiler.
fn check(wasm: &[u8]) -> Result<(), String> {
    if wasm.len() > MAX_COMPONENT_OCTETS {
        return Err(format!("{} octets, at most {MAX_COMPONENT_OCTETS} are compiled", wasm.len()));
    }
    if !wasm.starts_with(b"\0asm") {
        return Err("this is no WebAssembly file".into());
    }
    // The layer in the preamble: 1 is a component, 0 a core module.
    if wasm.get(6..8) == Some(&[0, 0]) {
        return Err("this is a core module, not a component; build it for wasm32-wasip2".into());
    }
    Ok(())
}

fn load(engine: &Engine, code: &[u8]) -> Result<Component, String> {
    #[expect(
        unsafe_code,
        reason = "the code comes from our compiler: just now, or authenticated by our own key"
    )]
    let component = unsafe { Component::deserialize(engine, code) };
    component.map_err(|error| format!("cannot load compiled code: {error:#}"))
}

/// What the code depends on besides the component: version and settings of the engine, features of the processor.
fn compatibility(engine: &Engine) -> String {
    struct Into256(Sha256);
    impl Hasher for Into256 {
        fn write(&mut self, octets: &[u8]) {
            self.0.update(octets);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut hasher = Into256(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hex(&hasher.0.finalize()[..8])
}

/// Makes a directory that only this user may enter, or checks that it is one.
pub(crate) fn private_directory(path: &Path) -> Result<(), Error> {
    let fault = |what| move |source| Error::Directory { what, path: path.into(), source };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(fault("cannot make directory"))?;
    let metadata = std::fs::metadata(path).map_err(fault("cannot read directory"))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(fault(
            "others may enter the directory of compiled plugins, and it cannot be closed:",
        ))?;
    }
    Ok(())
}

fn read_or_make_key(path: &Path) -> std::io::Result<[u8; 32]> {
    match std::fs::read(path) {
        Ok(key) => {
            if let Ok(key) = key.try_into() {
                return Ok(key);
            }
            // Cut by a crash while it was made: nothing was authenticated with it.
            std::fs::remove_file(path)?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(std::io::Error::other)?;
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&key)?;
    file.sync_all()?;
    Ok(key)
}

pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// For so long the compiler is not asked again about a component that it gave up on.
const REMEMBERED: Duration = Duration::from_secs(60);
/// HMAC-SHA256.
const CODE_OCTETS: usize = 32;
/// Four times what a component of Python with its standard library has.
const MAX_COMPONENT_OCTETS: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "(component)";

    fn open(directory: &Path) -> Cache {
        let (cache, key) = (directory.join("cache"), directory.join("key"));
        Cache::open(&cache, &key, Compiler::Here, Arc::new(crate::SystemClock)).unwrap()
    }

    fn engine() -> Engine {
        crate::engine::engine(4).unwrap()
    }

    #[test]
    fn a_flipped_bit_is_refused_and_compiled_again() {
        let directory = tempfile::tempdir().unwrap();
        let (engine, wasm) = (engine(), wat::parse_str(EMPTY).unwrap());
        let cache = open(directory.path());
        let digest: [u8; 32] = Sha256::digest(&wasm).into();
        cache.component(&engine, &wasm, &digest).unwrap();
        let path = std::fs::read_dir(directory.path().join("cache"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let good = std::fs::read(&path).unwrap();
        assert!(cache.read(&path, &digest).is_some());
        for at in [0, CODE_OCTETS, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert!(cache.read(&path, &digest).is_none(), "octet {at}");
            cache.component(&engine, &wasm, &digest).unwrap();
            assert!(cache.read(&path, &digest).is_some(), "written anew");
        }
        for cut in [0, 1, CODE_OCTETS, good.len() - 1] {
            std::fs::write(&path, &good[..cut]).unwrap();
            assert!(cache.read(&path, &digest).is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn the_cache_is_closed_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cache");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        open(directory.path());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        let key = std::fs::metadata(directory.path().join("key")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
    }

    #[track_caller]
    fn refused(wasm: &[u8], word: &str) {
        let error = compile(&engine(), wasm).unwrap_err();
        assert!(error.contains(word), "{error}");
    }

    #[test]
    fn what_is_no_component_is_named() {
        refused(b"hello", "no WebAssembly");
        refused(&wat::parse_str("(module)").unwrap(), "core module");
        refused(b"\0asm\x0d\0\x01\0\xff\xff\xff", "does not compile");
    }
}
