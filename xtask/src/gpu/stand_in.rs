//! A stand-in for CUDA's compiler: types are checked with it where there is no CUDA. Nothing that it makes can be run.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::CUDARC_CUDA_VERSION;

/// Makes every file that it is asked for, empty.
const SCRIPT: &str = r#"#!/bin/sh
# Stands in for nvcc where types are checked and nothing is linked: makes every file that it is asked for, empty.
made='' folder=. source='' ptx=''
while [ $# -gt 0 ]; do
    case $1 in
        --version) echo 'a stand-in for nvcc, release 13.0, V13.0'; exit ;;
        --ptx) ptx=yes ;;
        --output-directory) shift; folder=$1 ;;
        -o) shift; made=$1 ;;
        *.cu) source=$1 ;;
    esac
    shift
done
if [ -n "$ptx" ]; then made=$folder/$(basename "$source" .cu).ptx; fi
: > "$made"
"#;

/// Puts it into a folder, and says where it is.
pub fn write(folder: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(folder.join("nvcc"))?;
    let place = || format!("cannot write {}", path.display());
    fs::create_dir_all(folder).with_context(place)?;
    fs::write(&path, SCRIPT).with_context(place)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).with_context(place)?;
    Ok(path)
}

/// Lets a cargo command use it.
///
/// The kernels are made for an architecture that no GPU has. A build by the real compiler in the same folder asks for another
/// one, so that it makes them again and never finds the empty ones.
pub fn settle(command: &mut Command, nvcc: &Path) {
    let (version, number) = CUDARC_CUDA_VERSION;
    command.env("NVCC", nvcc).env("CUDA_COMPUTE_CAP", "199").env(version, number);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs;

    fn nvcc(path: &Path, words: &[&str]) -> Result<String> {
        let mut command = Command::new(path);
        command.args(words);
        programs::output(command)
    }

    #[test]
    fn it_makes_what_it_is_asked_for_as_the_build_scripts_ask() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(&dir.path().join("bin")).unwrap();
        let [object, library] = ["a-1.o", "libmoe.a"].map(|name| dir.path().join(name).display().to_string());
        let folder = dir.path().display().to_string();
        let ptx = ["-gencode=arch=compute_199f", "--ptx", "--output-directory", &folder, "-O3", "src/cast.cu"];
        nvcc(&path, &ptx).unwrap();
        nvcc(&path, &["-c", "-o", &object, "-Xcompiler", "-fPIC", "src/moe/a.cu"]).unwrap();
        nvcc(&path, &["--lib", "-o", &library, &object]).unwrap();
        for made in ["cast.ptx", "a-1.o", "libmoe.a"] {
            assert!(dir.path().join(made).exists(), "{made}");
        }
        assert!(nvcc(&path, &["--version"]).unwrap().contains("release 13.0, "));
        assert!(nvcc(&path, &["-O3"]).is_err(), "nothing to make");
    }
}
