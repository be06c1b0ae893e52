//! What is measured: real goods, the real text encoder, and a server of its own on them, in a folder that is removed at the
//! end. The prepared goods are kept, for the next time.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use tempfile::TempDir;
use vitrine::v1::{GetCatalogRequest, Item, ListItemsRequest};
use vitrine_client::{Client, Options};

use crate::{
    demo::{
        prepare::{Cut, Prepared},
        retail,
        source::Source,
    },
    programs::{self, Interrupted, say},
    rotate::{self, Rotate},
    server::{Server, Start},
};

/// Where the prepared goods are kept.
pub const KEPT: &str = "target/bench";
/// The catalog's resource name.
pub const CATALOG: &str = "catalogs/grocery";
/// The encoder's model.
pub const MODEL: &str = "minilm";
const GOODS: &str = "items.jsonl";
const PAGE: i32 = 1000;
const POLL: Duration = Duration::from_millis(500);

/// Programs, goods and models, and a folder for them.
pub struct Shop {
    // The folder goes last: the server writes into it to its end.
    pub server: Server,
    /// Names of real products, each once, in no order: queries that nobody has sent before.
    pub queries: Vec<String>,
    events: PathBuf,
    folder: TempDir,
}

impl Shop {
    /// Makes everything, starts the server with these `settings`, and imports as many goods. The encoder is there in one version.
    pub fn open(items: u32, settings: &[String], interrupted: &Interrupted) -> Result<Self> {
        let kept = Path::new(KEPT);
        fs::create_dir_all(kept).with_context(|| format!("cannot make {KEPT}"))?;
        let prepared = Prepared::make(kept, Cut::Small, interrupted)?;
        let mut queries: Vec<String> = retail::product_names(&Source::get(interrupted)?)?.into_iter().collect();
        queries.shuffle(&mut StdRng::seed_from_u64(1));

        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(kept).context("cannot make a folder")?;
        let registry = folder.path().join("registry");
        say("Getting the text encoder all-MiniLM-L6-v2");
        programs::run(programs::pull_encoder(&registry)?, Some(interrupted))?;

        say("Starting the server");
        let listen = free_port()?;
        let (data, log) = (folder.path().join("data"), folder.path().join("server.log"));
        let start = Start { listen, registry: &registry, data: &data, log: &log, settings };
        let server = Server::start(start, interrupted)?;

        say("Importing the goods");
        let goods = folder.path().join(GOODS);
        write_first(&prepared.items, items, &goods).with_context(|| goods.display().to_string())?;
        import(&server, CATALOG, &goods, interrupted)?;
        Ok(Self { server, queries, events: prepared.events, folder })
    }

    /// What was bought, in the form of an import.
    pub fn events(&self) -> &Path {
        &self.events
    }

    /// The goods, in the form of an import.
    pub fn goods(&self) -> PathBuf {
        self.folder.path().join(GOODS)
    }

    /// Puts what was bought into the catalog.
    pub fn import_events(&self, interrupted: &Interrupted) -> Result<()> {
        let mut import = self.server.client()?;
        import.args(["events", "import", "--catalog", CATALOG]).arg(&self.events);
        programs::run(import, Some(interrupted))
    }

    pub fn registry(&self) -> PathBuf {
        self.folder.path().join("registry")
    }

    /// Publishes another version of the encoder: the first one, followed by a rotation.
    pub fn publish_another(&self, interrupted: &Interrupted) -> Result<()> {
        let version = self.registry().join("models").join(MODEL).join("1");
        let rotated = self.folder.path().join("rotated");
        rotate::run(&Rotate { version, rotated: rotated.clone(), seed: 7 })?;
        let mut publish = Command::new(programs::ours("vitrine-registry")?);
        publish.args(["publish", MODEL]).arg(&rotated).args(["--kind", "bert", "--task", "text-embedding"]);
        publish.arg("--registry").arg(self.registry());
        programs::run(publish, Some(interrupted))
    }

    /// A connection to the server.
    pub async fn connect(&self) -> Result<Client> {
        connect(&self.server).await
    }

    /// Stops the server.
    pub fn close(self) -> Result<()> {
        self.server.stop()
    }
}

/// A connection to a server. Calls that fail are not repeated: that would hide what is measured.
pub async fn connect(server: &Server) -> Result<Client> {
    Ok(Client::connect(Options { server: server.url(), retries: 0, ..Options::default() }).await?)
}

/// Puts the items of a file into a catalog, which is made.
pub fn import(server: &Server, catalog: &str, items: &Path, interrupted: &Interrupted) -> Result<()> {
    let mut import = server.client()?;
    import.args(["items", "import", "--catalog", catalog, "--create"]).arg(items);
    programs::run(import, Some(interrupted))
}

/// An address that nobody listens on.
pub fn free_port() -> Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).context("no port is free")
}

/// Copies the first lines of a file.
fn write_first(from: &Path, lines: u32, to: &Path) -> io::Result<()> {
    let mut to = BufWriter::new(File::create(to)?);
    for line in BufReader::new(File::open(from)?).lines().take(lines as usize) {
        writeln!(to, "{}", line?)?;
    }
    to.flush()
}

/// Every item of the catalog.
pub async fn items(client: &Client) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            ListItemsRequest { parent: CATALOG.to_owned(), page_size: PAGE, page_token, ..Default::default() };
        let page = client.list_items(request).await?;
        items.extend(page.items);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(items);
        }
    }
}

/// Waits until every item of a catalog has its vector, and tells `progress` how many have and how many there are.
pub async fn indexed(client: &Client, catalog: &str, progress: impl Fn(u64, u64)) -> Result<()> {
    loop {
        let catalog = client.get_catalog(GetCatalogRequest { name: catalog.to_owned() }).await?;
        let versions: BTreeSet<u32> = catalog.vector_indexes.iter().map(|index| index.version).collect();
        let done: i64 = catalog.vector_indexes.iter().map(|index| index.indexed_items).sum();
        let pending: i64 = catalog.vector_indexes.iter().map(|index| index.pending_items).sum();
        progress(done.cast_unsigned(), (done + pending).cast_unsigned());
        if !versions.is_empty() && pending == 0 {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}
