//! The tools of others: where they are, which version, and how each is told to export or restore a table.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command as Blocking;

use tempfile::TempDir;
use tokio::process::Command;

use super::contenders::Contender;

/// Programs that are written in the bench, by their names.
const SCRIPTS: [(&str, &str); 3] = [
    ("boto3_scan.py", include_str!("../../peers/boto3_scan.py")),
    (
        "boto3_restore.py",
        include_str!("../../peers/boto3_restore.py"),
    ),
    ("node_scan.mjs", include_str!("../../peers/node_scan.mjs")),
];

/// Where tools are looked for.
#[derive(Debug)]
pub struct Peers {
    /// What `benches/peers/install.sh` has filled; its `bin` comes before `PATH`.
    folder: PathBuf,
    /// The scripts, and whatever a tool leaves behind.
    scratch: TempDir,
}

/// What one export or restore by a tool is about.
#[derive(Clone, Copy, Debug)]
pub struct Errand<'a> {
    /// The replay server, `http://127.0.0.1:PORT`.
    pub endpoint_url: &'a str,
    /// The table to read or write.
    pub table: &'a str,
    /// Bucket and prefix of the parts, of a restore.
    pub parts: (&'a str, &'a str),
}

impl Errand<'_> {
    fn port(&self) -> &str {
        self.endpoint_url.rsplit(':').next().unwrap_or_default()
    }
}

impl Peers {
    /// Looks in this folder, and in `PATH`.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let scratch = tempfile::tempdir()?;
        for (name, text) in SCRIPTS {
            fs::write(scratch.path().join(name), text)?;
        }
        Ok(Self {
            // Tools do not run in this folder.
            folder: std::path::absolute(folder)?,
            scratch,
        })
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        let own = self.folder.join("bin");
        let path = env::var_os("PATH").unwrap_or_default();
        let folders = [own].into_iter().chain(env::split_paths(&path));
        folders
            .map(|folder| folder.join(name))
            .find(|program| program.is_file())
    }

    /// A Python that has boto3.
    fn python(&self) -> Option<PathBuf> {
        let has_boto3 = |python: &PathBuf| said(python, &["-c", "import boto3"]).is_some();
        let names = ["python-boto3", "python3"];
        let mut pythons = names.into_iter().filter_map(|name| self.program(name));
        pythons.find(has_boto3)
    }

    /// The folder with the Node SDK in it.
    fn node_modules(&self) -> Option<PathBuf> {
        let modules = self.folder.join("node/node_modules");
        let sdk = modules.join("@aws-sdk/client-dynamodb");
        sdk.is_dir().then_some(modules)
    }

    fn script(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The command, or `None` if the tool is not installed.
    #[must_use]
    pub fn command(&self, contender: Contender, errand: &Errand<'_>) -> Option<Command> {
        let (url, table) = (errand.endpoint_url, errand.table);
        let mut command = match contender {
            Contender::Boto3Export => self.boto3("boto3_scan.py", &[url, table])?,
            Contender::Boto3Restore => {
                let (bucket, prefix) = errand.parts;
                self.boto3("boto3_restore.py", &[url, bucket, prefix, table])?
            }
            Contender::NodeExport => {
                let mut command = Command::new(self.program("node")?);
                command.arg(self.script("node_scan.mjs"));
                command.arg(self.node_modules()?).args([url, table]);
                command
            }
            Contender::AwsCliExport => piped(
                &self.program("aws")?,
                &format!("dynamodb scan --output json --endpoint-url {url} --table-name {table}"),
            ),
            Contender::DyndumpExport => piped(
                &self.program("dyndump")?,
                &format!("dump --silent --no-progress -p 4 -r 1000000 --stdout {table}"),
            ),
            Contender::DynamodumpExport => self.dynamodump(errand)?,
            Contender::DyneinExport => self.dynein(errand)?,
            _ => return None,
        };
        command
            .env_clear()
            .current_dir(self.scratch.path())
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.scratch.path())
            .env("TMPDIR", self.scratch.path())
            .env("AWS_REGION", "us-east-1")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "local")
            .env("AWS_SECRET_ACCESS_KEY", "local")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ENDPOINT_URL", url)
            .env("AWS_PAGER", "");
        Some(command)
    }

    fn boto3(&self, script: &str, arguments: &[&str]) -> Option<Command> {
        let mut command = Command::new(self.python()?);
        command.arg(self.script(script)).args(arguments);
        Some(command)
    }

    fn dynamodump(&self, errand: &Errand<'_>) -> Option<Command> {
        let mut command = Command::new(self.program("dynamodump")?);
        command.args(["-m", "backup", "-r", "local", "--host", "127.0.0.1"]);
        command.args(["--accessKey", "local", "--secretKey", "local"]);
        command.args(["--port", errand.port(), "-s", errand.table, "--dumpPath"]);
        command.arg(self.script("dynamodump"));
        Some(command)
    }

    fn dynein(&self, errand: &Errand<'_>) -> Option<Command> {
        let mut command = Command::new(self.program("dy")?);
        command.args(["--region", "local", "--port", errand.port(), "export"]);
        command.args(["--table", errand.table, "--format", "jsonl"]);
        command
            .arg("--output-file")
            .arg(self.script("dynein.jsonl"));
        Some(command)
    }

    /// Removes what a tool has left, so that the next run finds what this one found.
    pub fn clean(&self) {
        // What is not there needs no removing; what stays goes with the folder.
        let _ = fs::remove_dir_all(self.script("dynamodump"));
        let _ = fs::remove_file(self.script("dynein.jsonl"));
    }

    /// The tools that are here, each with its version as it tells it.
    #[must_use]
    pub fn versions(&self) -> Vec<(&'static str, String)> {
        let mut versions = Vec::new();
        let mut note = |name, version: Option<String>| {
            versions.extend(version.map(|version| (name, version)));
        };
        let told = |program: &str, arguments: &[&str]| said(&self.program(program)?, arguments);
        let boto3 = "import boto3, platform; print(boto3.__version__, 'on Python', platform.python_version())";
        note(
            "boto3",
            self.python().and_then(|it| said(&it, &["-c", boto3])),
        );
        note("AWS CLI", told("aws", &["--version"]));
        note(
            "dynamodump",
            self.program("dynamodump")
                .map(|_| self.dynamodump_version()),
        );
        note("Node SDK", self.node_sdk_version());
        note(
            "dyndump",
            self.program("dyndump").map(|_| "no version told".into()),
        );
        note("dynein", told("dy", &["--version"]));
        versions
    }

    fn dynamodump_version(&self) -> String {
        let version = "from importlib.metadata import version; print(version('dynamodump'))";
        let python = self.folder.join("dynamodump/bin/python");
        said(&python, &["-c", version]).unwrap_or_else(|| "no version told".into())
    }

    fn node_sdk_version(&self) -> Option<String> {
        let package = self
            .node_modules()?
            .join("@aws-sdk/client-dynamodb/package.json");
        let package: serde_json::Value = serde_json::from_slice(&fs::read(package).ok()?).ok()?;
        let node = said(&self.program("node")?, &["--version"])?;
        let version = package.get("version")?.as_str()?;
        Some(format!("{version} on Node {node}"))
    }
}

/// The first line that a program says, if it ends well.
fn said(program: &Path, arguments: &[impl AsRef<OsStr>]) -> Option<String> {
    let output = Blocking::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next().unwrap_or_default().to_owned();
    output.status.success().then_some(line)
}

/// A program whose output goes through `gzip -6` and away. It fails if either does.
fn piped(program: &Path, arguments: &str) -> Command {
    let mut command = Command::new("bash");
    let line = format!("\"$0\" {arguments} | gzip -6 > /dev/null");
    command
        .args(["-o", "pipefail", "-c"])
        .arg(line)
        .arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_that_is_not_there_has_no_command_and_no_version() {
        let nowhere = tempfile::tempdir().unwrap();
        let peers = Peers::new(nowhere.path()).unwrap();
        let errand = Errand {
            endpoint_url: "http://127.0.0.1:1",
            table: "small",
            parts: ("", ""),
        };
        assert_eq!(peers.node_modules(), None);
        assert!(peers.command(Contender::NodeExport, &errand).is_none());
        assert!(peers.command(Contender::LimitZstd, &errand).is_none());
        assert!(peers.versions().iter().all(|(name, _)| *name != "Node SDK"));
        assert!(peers.script("boto3_scan.py").is_file());
    }

    /// A broken export must not look like a fast one.
    #[tokio::test]
    async fn a_pipe_fails_with_its_first_program() {
        let status = |program: &str| piped(Path::new(program), "x").status();
        assert!(!status("false").await.unwrap().success());
        assert!(status("true").await.unwrap().success());
    }
}
