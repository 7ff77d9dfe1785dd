//! Lets the one test that calls libtorch directly find it, with no exported variable.
//!
//! The folder comes from `.cargo/config.toml`, or from the caller's environment. It is not read
//! from aegis-torch's build script, as aegis-backend does, because a build script is not told
//! about dev-dependencies.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    let Some(lib) = env::var_os("LIBTORCH").map(|dir| PathBuf::from(dir).join("lib")) else {
        return;
    };
    // Absolute, because tests run in their package's folder.
    if let Ok(lib) = lib.canonicalize() {
        println!("cargo::rustc-link-arg-tests=-Wl,-rpath,{}", lib.display());
    }
}
