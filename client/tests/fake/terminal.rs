//! The command `vitrine`, run against the fake shop.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use vitrine::v1::Item;

use super::{FakeShop, item};

/// A fake shop with a few goods, and the command pointed at it.
pub struct Terminal {
    pub shop: FakeShop,
    server: String,
}

impl Terminal {
    pub fn new() -> Self {
        let shop = FakeShop::default();
        for (id, title) in [("a1", "Oat milk"), ("a2", "Whole milk"), ("b1", "Rye bread")] {
            shop.state().items.insert(id.into(), Item { title: title.into(), ..item(id) });
        }
        let server = shop.listen();
        Self { shop, server }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitrine"));
        command.env_clear().env("VITRINE_SERVER", &self.server).env("VITRINE_CATALOG", "shop");
        // Nobody is there: what is fetched through it does not come.
        command.env("HTTP_PROXY", "http://127.0.0.1:9").env("http_proxy", "http://127.0.0.1:9");
        command
    }

    pub async fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command();
        command.args(arguments);
        Ran::from(tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap())
    }

    /// Runs with `input` on stdin.
    pub async fn feed(&self, arguments: &[&str], input: String) -> Ran {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let run = move || {
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        };
        Ran::from(tokio::task::spawn_blocking(run).await.unwrap())
    }
}

/// How a run of the command ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    #[track_caller]
    pub fn is(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// The output's lines with single spaces.
    pub fn lines(&self) -> Vec<String> {
        self.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[track_caller]
    pub fn says(&self, expected: &[&str]) {
        let lines = self.lines();
        for line in expected {
            assert!(lines.iter().any(|told| told == line), "{line}: {}", self.out);
        }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

/// A test on real sockets.
macro_rules! scenario {
    ($name:ident, $terminal:ident => $body:block) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let $terminal = Terminal::new();
            $body
        }
    };
}
pub(crate) use scenario;
