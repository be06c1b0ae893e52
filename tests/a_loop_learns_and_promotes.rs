//! A shop that begins with what is popular learns from its shoppers: version after version is tried on a few of them, and answers all when it
//! proves itself. One that is broken is found out, and nobody but those few ever gets it. The loop is killed all the time.

#![cfg(test)]

mod harness;

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use harness::{
    Start, TestServer,
    encoders::registry_command,
    program,
    shoppers::{Goods, Shoppers, Visits, shuffled},
    stock,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;
use vitrine::v1::{GetModelRequest, GetModelVersionRequest};
use vitrine_client::Client;

/// How large a shop is, and how long its story.
#[derive(Clone, Copy)]
struct Size {
    items: usize,
    shoppers: usize,
    /// A network is learnt when so many new events are there.
    new_events: u32,
    /// So many versions are to prove themselves.
    promotions: u64,
}

/// A shop with a loop.
struct Shop {
    server: TestServer,
    client: Client,
    shoppers: Shoppers,
    /// What came of each wave of visits.
    waves: Vec<Visits>,
    random: StdRng,
}

/// What the loop remembers.
struct State(Value);

impl State {
    fn count(&self, outcome: &str) -> u64 {
        self.0["counts"][outcome].as_u64().unwrap()
    }

    fn phase(&self) -> &str {
        self.0["phase"]["name"].as_str().unwrap()
    }
}

async fn shop(size: Size) -> Shop {
    // Nothing but the network and what is popular recommends, so that it shows how good the network is.
    let others_off = ["follows", "together", "similar", "again"].map(|source| format!("recommend.{source}=0.0"));
    let start = others_off.iter().fold(Start::default(), |start, setting| start.set(setting));
    let server = start.set("recommend.next=1.0").set("sequence_model.model=next-item").run();
    let client = server.client().await;
    let goods = Goods::new(size.items, 7);
    stock(&client, goods.items()).await;
    let (shoppers, random) = (Shoppers::new(&goods, size.shoppers, 7), StdRng::seed_from_u64(7));
    let shop = Shop { server, client, shoppers, waves: Vec::new(), random };
    fs::write(shop.path("loop.toml"), shop.config(size.new_events)).unwrap();
    shop
}

impl Shop {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.server.start.dir.path().join(name)
    }

    /// A network is learnt when so many new events are there.
    fn config(&self, new_events: u32) -> String {
        format!(
            r#"
server = "{}"
catalog = "shop"
registry = "registry"
folder = "loop"
model = "next-item"

[data]
min_new_events = {new_events}
core = 1
most_per_minute = 100000

[network]
kind = "sasrec"
max_length = 8
hidden = 32
dropout = 0.1

[network.learning]
learning_rate = 0.005
epochs = 20
patience = 5

[experiment]
min_step_time = "0s"
min_step_users = 50
tolerance = 0.1
sequential_tuning = 100

[[experiment.guard_rails]]
metric = "ctr"
tolerance = 0.1
"#,
            self.server.url()
        )
    }

    /// Everybody comes once.
    async fn wave(&mut self) -> f64 {
        let visits = self.shoppers.visit(&self.client).await;
        let ctr = visits.ctr();
        eprintln!("wave {}: ctr {ctr:.3}, {} requests", self.waves.len(), visits.requests);
        self.waves.push(visits);
        ctr
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program("vitrine-trainer"));
        command.arg("loop").arg("--config").arg(self.path("loop.toml"));
        command.arg("--once").arg("--metrics").arg(self.path("loop.prom"));
        command
    }

    /// As cron does.
    fn run_loop(&self) -> State {
        let output = self.command().output().unwrap();
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success());
        self.state()
    }

    /// Somewhere on its way.
    fn kill_loop(&mut self) {
        let mut process = self.command().stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(self.random.random_range(20..1_500)));
        _ = process.kill();
        process.wait().unwrap();
    }

    fn state(&self) -> State {
        State(serde_json::from_slice(&fs::read(self.path("loop/loop-state.json")).unwrap()).unwrap())
    }

    /// People come, and the loop works, until it has done that so often.
    async fn until(&mut self, outcome: &str, times: u64) -> f64 {
        for _ in 0..20 {
            let ctr = self.wave().await;
            self.kill_loop();
            let state = self.run_loop();
            if state.count(outcome) >= times {
                return ctr;
            }
        }
        panic!("it never came to {times} {outcome}");
    }

    /// The version that answers.
    async fn live(&self) -> u32 {
        let request = GetModelRequest { name: "models/next-item".into() };
        self.client.get_model(request).await.unwrap().labels["stable"]
    }

    /// Checksums of the weights of all versions.
    fn weights(&self) -> Vec<String> {
        let output = registry_command(&self.path("registry"), &["list", "--json"]);
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        let versions = listed["models"][0]["versions"].as_array().unwrap();
        versions.iter().map(|version| version["manifest"]["files"]["model.safetensors"]["sha256"].to_string()).collect()
    }

    fn registry(&self, arguments: &[&str]) {
        let output = registry_command(&self.path("registry"), arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// The share of answers that were clicked before there was a network, and after each that was promoted.
async fn story(size: Size) {
    let mut shop = shop(size).await;
    let mut ctr = vec![shop.wave().await];
    for promoted in 1..=size.promotions {
        shop.until("promoted", promoted).await;
        ctr.push(shop.wave().await);
    }
    eprintln!("ctr: {ctr:.3?}");
    assert!(ctr[1] > 1.5 * ctr[0] && ctr[ctr.len() - 1] > ctr[1], "{ctr:?}");

    // Nothing more is learnt.
    fs::write(shop.path("loop.toml"), shop.config(u32::MAX)).unwrap();
    while shop.run_loop().phase() != "idle" {
        shop.wave().await;
    }
    let learnt = shop.weights();
    assert_eq!(learnt.iter().collect::<BTreeSet<_>>().len(), learnt.len(), "published twice: {learnt:?}");
    let live = shop.live().await.to_string();
    let (before, broken) = (shop.waves.len(), shop.path("broken"));
    shuffled(&shop.path("registry/models/next-item").join(&live), &broken, 1);
    let folder = broken.to_str().unwrap();
    let what = ["--kind", "sasrec", "--task", "sequence-recommendation", "--parent", &live, "--label", "canary"];
    shop.registry(&[&["publish", "next-item", folder][..], &what].concat());
    let rejected = shop.run_loop().count("rejected");
    shop.until("rejected", rejected + 1).await;

    assert_eq!(shop.live().await.to_string(), live);
    let broken = shop.state().0["last"]["version"].as_u64().unwrap();
    let name = format!("models/next-item/versions/{broken}");
    let told = shop.client.get_model_version(GetModelVersionRequest { name }).await.unwrap();
    assert!(told.rejected.contains("ctr"), "{told:?}");
    let mut got = BTreeSet::new();
    for wave in &shop.waves[before..] {
        got.extend(wave.arms.iter().filter(|((_, arm), _)| arm == "candidate").flat_map(|(_, seen)| &seen.shoppers));
    }
    // 5 %, up to chance.
    let (got, all) = (got.len() as f64, size.shoppers as f64);
    assert!(got > 0.0 && got < 0.05 * all + 4.0 * (0.05 * all).sqrt(), "{got} of {all} got the broken version");

    let failures: Vec<&String> = shop.waves.iter().flat_map(|wave| &wave.failures).collect();
    assert!(failures.is_empty(), "{failures:?}");
    let metrics = fs::read_to_string(shop.path("loop.prom")).unwrap();
    let promoted = shop.state().count("promoted");
    let promoted = format!("vitrine_loop_rounds_total{{model=\"next-item\",outcome=\"promoted\"}} {promoted}");
    assert!(metrics.contains(&promoted), "{metrics}");
    let listed = shop.server.cli(&["models", "list"]);
    let listed = String::from_utf8_lossy(&listed.stdout);
    assert!(listed.contains("stable") && listed.contains("ctr -"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_prove_themselves_and_a_broken_one_never_answers_more_than_a_few() {
    story(Size { items: 200, shoppers: 1_500, new_events: 1_500, promotions: 2 }).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes an hour"]
async fn they_do_so_for_long() {
    story(Size { items: 1_000, shoppers: 10_000, new_events: 20_000, promotions: 5 }).await;
}
