//! Pictures from a terminal: searching by them, putting them, and importing them with their items.

#![cfg(test)]

mod fake;

use std::{fs, path::Path};

use bytes::Bytes;
use tempfile::{TempDir, tempdir};
use vitrine::v1::{ImageQuery, Likeness, MultimodalQuery, search_request::Query};

use crate::fake::{
    png,
    terminal::{Terminal, scenario},
    web::{Web, found, not_found},
};

fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> String {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The names of the items that have pictures.
fn pictured(terminal: &Terminal) -> Vec<String> {
    terminal.shop.state().pictures.keys().cloned().collect()
}

scenario!(a_search_goes_by_a_picture_by_words_or_by_both, terminal => {
    let folder = tempdir().unwrap();
    let file = write(&folder, "shoe.png", &png(1));
    terminal.shop.state().pictures.insert("b1".into(), png(1));
    let image = ImageQuery { data: png(1) };
    let ran = terminal.run(&["search", "--image", &file]).await.is(0);
    assert!(ran.out.contains("Rye bread") && ran.out.contains("1 result"), "{ran:?}");
    assert_eq!(terminal.shop.state().searched.query, Some(Query::Image(image.clone())));
    let both = |image_weight| {
        Some(Query::Multimodal(MultimodalQuery { text: "milk".into(), image: Some(image.clone()), image_weight }))
    };
    terminal.run(&["search", "milk", "--image", &file]).await.is(0);
    assert_eq!(terminal.shop.state().searched.query, both(None));
    terminal.run(&["search", "--image", &file, "--image-weight", "0.7", "milk"]).await.is(0);
    assert_eq!(terminal.shop.state().searched.query, both(Some(0.7)));
});

scenario!(a_search_by_a_picture_says_what_is_wrong_with_it, terminal => {
    let folder = tempdir().unwrap();
    let file = write(&folder, "shoe.png", &png(1));
    let ran = terminal.run(&["search"]).await.is(2);
    assert!(ran.err.contains("--image"), "{ran:?}");
    terminal.run(&["search", "milk", "--image-weight", "0.7"]).await.is(2);
    terminal.run(&["search", "--image", &file, "--image-weight", "0.7"]).await.is(2);
    let missing = folder.path().join("none.png").to_str().unwrap().to_owned();
    let ran = terminal.run(&["search", "--image", &missing]).await.is(1);
    assert!(ran.err.contains("none.png: ") && ran.err.contains("No such file"), "{ran:?}");
    let large = write(&folder, "large.png", &[png(1).as_ref(), &vec![0; 10 << 20]].concat());
    let ran = terminal.run(&["search", "--image", &large]).await.is(1);
    assert!(ran.err.contains("large.png: larger than 10 MiB"), "{ran:?}");
    let text = write(&folder, "shoe.txt", b"a shoe");
    let ran = terminal.run(&["search", "--image", &text]).await.is(1);
    assert!(ran.err.contains("shoe.txt: neither PNG, JPEG nor WebP"), "{ran:?}");
    assert_eq!(terminal.shop.calls("Search"), 0);
});

scenario!(similar_items_are_alike_by_what_is_asked, terminal => {
    let ran = terminal.run(&["recommend", "--similar-to", "a1", "--by", "picture"]).await.is(0);
    assert!(ran.out.contains("looks like a1"), "{ran:?}");
    assert_eq!(terminal.shop.state().recommended.likeness(), Likeness::Picture);
    terminal.run(&["recommend", "--similar-to", "a1", "--by", "meaning"]).await.is(0);
    assert_eq!(terminal.shop.state().recommended.likeness(), Likeness::Meaning);
    terminal.run(&["recommend", "--similar-to", "a1"]).await.is(0);
    assert_eq!(terminal.shop.state().recommended.likeness(), Likeness::Unspecified);
    for other in [["--popular"].as_slice(), &["--user", "u1"], &["--bought-together", "a1"]] {
        terminal.run(&[&["recommend", "--by", "picture"], other].concat()).await.is(2);
    }
});

scenario!(a_picture_is_put_got_and_deleted, terminal => {
    let folder = tempdir().unwrap();
    let file = write(&folder, "milk.png", &png(1));
    let out = folder.path().join("back.png");
    let out = out.to_str().unwrap();
    terminal.run(&["items", "picture", "put", "a1", &file]).await.is(0);
    let ran = terminal.run(&["items", "picture", "get", "a1", "--out", out]).await.is(0);
    assert!(ran.out.contains("back.png") && ran.out.contains("8 × 8") && ran.out.contains("image/png"), "{ran:?}");
    assert_eq!(fs::read(out).unwrap(), png(1));
    let told = terminal.run(&["items", "picture", "get", "a1", "--out", out, "--json"]).await.is(0).json();
    assert_eq!(told, serde_json::json!({ "content_type": "image/png", "file": out }));
    assert!(terminal.run(&["catalogs", "get"]).await.is(0).out.lines().next().unwrap().contains("pictures"));
    let catalog = terminal.run(&["catalogs", "get", "--json"]).await.is(0).json();
    assert_eq!((&catalog["picture_count"], &catalog["vector_indexes"][0]["task"]), (&"1".into(), &"text-embedding".into()));
    terminal.run(&["items", "picture", "delete", "a1"]).await.is(0);
    let ran = terminal.run(&["items", "picture", "delete", "a1"]).await.is(4);
    assert!(ran.err.contains("item `a1` has no picture"), "{ran:?}");
    terminal.run(&["items", "picture", "delete", "a1", "--allow-missing"]).await.is(0);
    terminal.run(&["items", "picture", "get", "a1", "--out", out]).await.is(4);
    terminal.run(&["items", "picture", "put", "zz", &file]).await.is(4);
});

/// A line for each id and what its `image` says.
fn lines(items: &[(&str, &str)]) -> String {
    let line = |(id, image): &(&str, &str)| serde_json::json!({ "id": id, "title": id, "image": image }).to_string();
    items.iter().map(|item| line(item) + "\n").collect()
}

/// A folder with an import of five items, beside it what three of them name.
fn import_with_files() -> (TempDir, String) {
    let outer = tempdir().unwrap();
    let folder = outer.path().join("shop");
    fs::create_dir_all(folder.join("photos")).unwrap();
    fs::write(folder.join("photos/good.png"), png(1)).unwrap();
    fs::write(folder.join("broken.png"), &png(2)[..20]).unwrap();
    fs::write(outer.path().join("outside.png"), png(3)).unwrap();
    let items = [
        ("n1", "photos/good.png"),
        ("n2", "photos/none.png"),
        ("n3", "../outside.png"),
        ("n4", ""),
        ("n5", "broken.png"),
        ("n6", "https://shop.example/a.png"),
    ];
    let file = folder.join("items.jsonl");
    fs::write(&file, lines(&items)).unwrap();
    (outer, file.to_str().unwrap().to_owned())
}

scenario!(items_are_imported_with_their_pictures_and_without_those_that_cannot_be_had, terminal => {
    let (_outer, file) = import_with_files();
    let ran = terminal.run(&["items", "import", &file, "--pictures"]).await.is(0);
    assert!(ran.out.contains("imported 6 items") && ran.out.contains("4 without their picture"), "{ran:?}");
    let told = |line: u32, text: &str| ran.err.lines().any(|told| told.contains(&format!("items.jsonl:{line}: {text}")));
    assert!(told(2, "picture: photos/none.png: No such file"), "{ran:?}");
    assert!(told(3, "picture: ../outside.png: leads out of the folder of pictures"), "{ran:?}");
    assert!(told(5, "picture: "), "the server's own words: {ran:?}");
    assert!(told(6, "picture: https://shop.example/a.png: an address is fetched only with --fetch-pictures"), "{ran:?}");
    assert_eq!(terminal.shop.state().items.len(), 3 + 6);
    assert_eq!((pictured(&terminal), terminal.shop.state().pictures["n1"].clone()), (vec!["n1".to_owned()], png(1)));
});

scenario!(pictures_are_imported_only_where_that_is_asked_for, terminal => {
    let (_outer, file) = import_with_files();
    let ran = terminal.run(&["items", "import", &file, "--json"]).await.is(0);
    assert_eq!((&ran.json()["accepted"], &ran.json()["without_picture"]), (&6.into(), &0.into()));
    assert!(pictured(&terminal).is_empty() && ran.err.is_empty(), "{ran:?}");
    terminal.run(&["items", "import", &file, "--fetch-pictures"]).await.is(2);
    terminal.run(&["items", "import", &file, "--pictures", "--allow-private-addresses"]).await.is(2);
    terminal.run(&["events", "import", &file, "--pictures"]).await.is(2);
});

scenario!(the_folder_of_pictures_can_be_another_one_than_that_of_the_file, terminal => {
    let (outer, file) = import_with_files();
    let input = fs::read_to_string(Path::new(&file)).unwrap();
    let folder = outer.path().join("shop/photos");
    let lines = lines(&[("n1", "good.png")]);
    let from = ["items", "import", "-", "--pictures", "--pictures-from", folder.to_str().unwrap()];
    terminal.feed(&from, lines).await.is(0);
    assert_eq!(pictured(&terminal), ["n1"]);
    let ran = terminal.feed(&["items", "import", "-", "--pictures", "--json"], input).await.is(0);
    assert_eq!(ran.json()["without_picture"], 5);
    assert!(ran.err.contains("-:1: picture: photos/good.png: a file, but an import from stdin has no folder"), "{ran:?}");
    let ran = terminal.run(&["items", "import", &file, "--pictures", "--pictures-from", "/no/such/folder"]).await.is(1);
    assert!(ran.err.contains("cannot read /no/such/folder"), "{ran:?}");
});

/// A web server that has pictures of items by the names `/1.png`, `/2.png` and so on, up to 40.
async fn gallery() -> Web {
    Web::serve(|path| {
        let number = path.trim_start_matches('/').trim_end_matches(".png").parse::<u8>();
        match number {
            Ok(number @ 1..=40) => found("image/png", &png(number)),
            _ => not_found(),
        }
    })
    .await
}

/// Forty items with their pictures in the gallery, and one whose picture is not there.
fn of_the_gallery(web: &Web) -> String {
    let images: Vec<(String, String)> = (1..=41).map(|n| (format!("n{n:02}"), web.url(&format!("/{n}.png")))).collect();
    lines(&images.iter().map(|(id, image)| (id.as_str(), image.as_str())).collect::<Vec<_>>())
}

const FETCH: [&str; 5] = ["items", "import", "-", "--pictures", "--fetch-pictures"];

scenario!(pictures_are_fetched_for_their_own_items_and_past_any_proxy, terminal => {
    let web = gallery().await;
    let allowed = [&FETCH[..], &["--allow-private-addresses", "--json"]].concat();
    let ran = terminal.feed(&allowed, of_the_gallery(&web)).await.is(0);
    assert_eq!((&ran.json()["accepted"], &ran.json()["without_picture"]), (&41.into(), &1.into()));
    assert!(ran.err.contains("-:41: picture: http://") && ran.err.contains("the server answers 404 Not Found"), "{ran:?}");
    let expected = (1..=40_u8).map(|n| (format!("n{n:02}"), png(n)));
    assert_eq!(terminal.shop.state().pictures, expected.collect::<std::collections::BTreeMap<String, Bytes>>());
});

scenario!(pictures_are_not_fetched_from_private_addresses_unless_that_is_allowed, terminal => {
    let web = gallery().await;
    let ran = terminal.feed(&FETCH, of_the_gallery(&web)).await.is(0);
    assert!(ran.out.contains("imported 41 items") && ran.out.contains("41 without their picture"), "{ran:?}");
    assert!(ran.err.contains("127.0.0.1 is a loopback address"), "{ran:?}");
    assert_eq!((web.asked().len(), pictured(&terminal).len()), (0, 0));
});

scenario!(what_was_imported_before_has_its_picture_fetched_no_more, terminal => {
    let web = gallery().await;
    let nightly = [&FETCH[..], &["--allow-private-addresses", "--import-id", "nightly"]].concat();
    terminal.feed(&nightly, of_the_gallery(&web)).await.is(0);
    assert_eq!(web.asked().len(), 41);
    let ran = terminal.feed(&nightly, of_the_gallery(&web)).await.is(0);
    assert!(ran.out.contains("41 lines passed over"), "{ran:?}");
    assert_eq!(web.asked().len(), 41);
});
