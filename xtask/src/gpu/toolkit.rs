//! CUDA's compiler without CUDA: its parts from PyPI, kept in the cache, and what stands for libraries that are not there.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    cache,
    programs::{self, Interrupted, say},
};

/// Of the compiler. Newer ones write kernels that drivers of series 580 do not take.
const VERSION: &str = "13.0.88";
/// The compiler in three parts, and headers: of the runtime, with the library that programs are linked with; of the C++
/// library; of the random numbers.
const PACKAGES: [&str; 6] = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cccl==13.0.85",
    "nvidia-curand==10.4.0.35",
];
/// Where the packages put it all.
const FOLDER: &str = "nvidia/cu13";
/// Libraries that candle has linked and that are opened when the program runs.
const OPENED_LATER: [&str; 5] = ["cuda", "cublas", "cublasLt", "curand", "nvrtc"];
/// An archive with nothing in it: its magic and no more (`man 5 ar`).
const EMPTY_ARCHIVE: &[u8] = b"!<arch>\n";

/// A folder that is laid out like an installation of CUDA.
pub struct Toolkit {
    pub home: PathBuf,
}

impl Toolkit {
    /// From the cache, else from PyPI.
    pub fn get(interrupted: &Interrupted) -> Result<Self> {
        let folder = std::path::absolute(cache::folder().join("cuda").join(VERSION))?;
        let toolkit = Self { home: folder.join(FOLDER) };
        if !toolkit.nvcc().exists() {
            say(&format!("Getting CUDA's compiler {VERSION} from PyPI"));
            fetch(&folder, interrupted)?;
        }
        stand_for_libraries(&toolkit.home.join("lib"))?;
        Ok(toolkit)
    }

    pub fn nvcc(&self) -> PathBuf {
        self.home.join("bin/nvcc")
    }
}

fn fetch(folder: &Path, interrupted: &Interrupted) -> Result<()> {
    // Under another name until it is whole: what is in the cache is taken as it is.
    let partial = folder.with_file_name(format!("{VERSION}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| partial.display().to_string())?;
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--no-compile"]);
    pip.args(["--disable-pip-version-check", "--root-user-action", "ignore", "--target"]).arg(&partial).args(PACKAGES);
    programs::run(pip, Some(interrupted))
        .context("CUDA's compiler comes from PyPI: python3 and python3-pip are needed")?;
    fs::rename(&partial, folder).with_context(|| folder.display().to_string())
}

/// What the linker finds under the libraries' names. Empty archives do for those that are opened later. The runtime is part of
/// the program, for the kernels that were compiled into it; the packages have it under a name that nobody asks for.
fn stand_for_libraries(lib: &Path) -> Result<()> {
    let stubs = lib.join("stubs");
    let place = || format!("cannot make {}", stubs.display());
    fs::create_dir_all(&stubs).with_context(place)?;
    for name in OPENED_LATER {
        fs::write(stubs.join(format!("lib{name}.a")), EMPTY_ARCHIVE).with_context(place)?;
    }
    let runtime = stubs.join("libcudart.a");
    if !runtime.exists() {
        symlink("../libcudart_static.a", runtime).with_context(place)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_library_that_is_linked_has_something_under_its_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("libcudart_static.a"), "the runtime").unwrap();
        for _ in 0..2 {
            stand_for_libraries(dir.path()).unwrap();
        }
        let read = |name: &str| fs::read(dir.path().join(format!("stubs/lib{name}.a"))).unwrap();
        assert!(OPENED_LATER.iter().all(|name| read(name) == EMPTY_ARCHIVE));
        assert_eq!(read("cudart"), b"the runtime");
    }

    #[test]
    fn the_compiler_is_of_one_version() {
        assert_eq!(PACKAGES.iter().filter(|package| package.ends_with(VERSION)).count(), 3);
    }
}
