//! How versions come up, take each other's place, and leave.

use super::*;

#[tokio::test]
async fn the_old_version_answers_until_the_new_one_can_and_leaves_with_its_last_request() {
    let bench = Bench::new();
    let encoders = bench.ready(bench.options()).await;
    let held = encoders.resolve(None).unwrap();
    let (gate, keeper) = gate();
    *bench.stage.loads.lock() = Some(gate);
    bench.point_at(bench.publish("ok"));
    encoders.reaches(2, VersionState::Loading).await;
    keeper.began.recv_timeout(LONG).unwrap();
    assert_eq!(encoders.answering(), Some(1));
    keeper.go.send(()).unwrap();
    encoders.answers(2).await;
    encoders.reaches(1, VersionState::Draining).await;
    assert_eq!(encoders.answering(), Some(2));
    assert_eq!(held.embed_query("tea", None).await.as_deref(), Ok(&[1.0, 3.0][..]), "admitted to the old version");
    drop(held);
    encoders.reaches(1, VersionState::Ended).await;
    assert_eq!(encoders.states().iter().map(|state| state.device.as_str()).collect::<Vec<_>>(), ["", "cpu"]);
}

#[tokio::test]
async fn a_version_that_fails_never_takes_the_place_of_a_good_one() {
    let bench = Bench::new();
    let encoders = bench.ready(bench.options()).await;
    for (config, reason) in [("bad", "golden row 3 differs"), ("panic", "panicked")] {
        let version = bench.publish(config);
        bench.point_at(version);
        encoders.reaches(version.get(), VersionState::Failed).await;
        assert!(encoders.failure(version.get()).contains(reason), "{}", encoders.failure(version.get()));
        assert_eq!(encoders.answering(), Some(1));
    }
    bench.point_at(bench.publish("ok"));
    encoders.answers(4).await;
    assert_eq!(encoders.answering(), Some(4), "and it does not block the next");
}

#[tokio::test]
async fn a_version_that_is_over_is_forgotten_when_the_registry_no_longer_has_it() {
    let bench = Bench::new();
    let encoders = bench.ready(bench.options()).await;
    for (config, state) in
        [("bad", VersionState::Failed), ("ok", VersionState::Available), ("ok", VersionState::Available)]
    {
        let version = bench.publish(config);
        bench.point_at(version);
        encoders.reaches(version.get(), state).await;
    }
    encoders.reaches(3, VersionState::Ended).await;
    let known = || encoders.states().iter().map(|status| status.version).collect::<Vec<_>>();
    assert_eq!(known(), [1, 2, 3, 4]);
    let folder = bench.dir.path().join("registry/models/minilm");
    for version in ["1", "2"] {
        fs::remove_dir_all(folder.join(version)).unwrap();
    }
    encoders.states.until(|inner| inner.state(1).is_none() && inner.state(2).is_none()).await;
    assert_eq!(known(), [3, 4]);
}

#[tokio::test]
async fn a_damaged_version_is_not_loaded() {
    let bench = Bench::new();
    let version = bench.publish("ok");
    let folder = bench.registry().version(&bench.model, version).unwrap().path;
    fs::write(folder.join("config.json"), "ko").unwrap();
    bench.point_at(version);
    let encoders = bench.start(bench.options());
    encoders.reaches(1, VersionState::Failed).await;
    assert!(encoders.failure(1).contains("config.json"), "{}", encoders.failure(1));
    let Err(NotLoaded(detail)) = encoders.resolve(None) else { panic!("it is damaged") };
    assert!(detail.contains("version 1 of minilm failed"), "{detail}");
}

fn versions(list: &[Arc<Encoder>]) -> Vec<u32> {
    list.iter().map(|encoder| encoder.opened().version).collect()
}

#[tokio::test]
async fn a_new_version_waits_for_its_vectors_and_the_first_one_does_not() {
    let bench = Bench::new();
    bench.point_at(bench.publish("ok"));
    let encoders = bench.start_slow(bench.options());
    encoders.answers(1).await;
    let mut loaded = encoders.subscribe();
    bench.point_at(bench.publish("ok"));
    loaded.wait_for(|list| versions(list) == [1, 2]).await.unwrap();
    encoders.reaches(2, VersionState::Indexing).await;
    assert_eq!(encoders.answering(), Some(1));
    assert_eq!(encoders.resolve(Some("2")).unwrap().opened().version, 2, "it can be tried by its number");
    encoders.indexed(2, Ok(()));
    encoders.reaches(1, VersionState::Ended).await;
    assert_eq!(encoders.answering(), Some(2));
    loaded.wait_for(|list| versions(list) == [2]).await.unwrap();
}

#[tokio::test]
async fn a_version_whose_vectors_cannot_be_made_fails() {
    let bench = Bench::new();
    bench.point_at(bench.publish("ok"));
    let encoders = bench.start_slow(bench.options());
    encoders.answers(1).await;
    bench.point_at(bench.publish("ok"));
    encoders.reaches(2, VersionState::Indexing).await;
    encoders.indexed(2, Err("no space left".to_owned()));
    encoders.reaches(2, VersionState::Failed).await;
    assert_eq!((encoders.answering(), encoders.failure(2).as_str()), (Some(1), "no space left"));
}

#[tokio::test]
async fn after_a_restart_the_version_that_answered_does_so_until_the_new_one_is_indexed() {
    let bench = Bench::new();
    drop(bench.ready(bench.options()).await);
    bench.point_at(bench.publish("ok"));
    let encoders = bench.start_slow(bench.options());
    encoders.reaches(2, VersionState::Indexing).await;
    encoders.answers(1).await;
    assert_eq!(encoders.labels(), [("stable".to_owned(), 1)].into());
    encoders.indexed(2, Ok(()));
    encoders.reaches(1, VersionState::Ended).await;
    assert_eq!(encoders.labels(), [("stable".to_owned(), 2)].into());
    drop(encoders);
    let encoders = bench.start_slow(bench.options());
    encoders.answers(2).await;
    assert_eq!(encoders.states().len(), 1, "nobody asks for the old one any more");
}

#[tokio::test]
async fn the_former_version_is_kept_for_a_quick_way_back() {
    let bench = Bench::new();
    let encoders = bench.ready(ModelOptions { keep_previous: LONG, ..bench.options() }).await;
    bench.point_at(bench.publish("ok"));
    encoders.answers(2).await;
    for version in [1, 2] {
        let version = Version::new(version).unwrap();
        bench.point_at(version);
        let wish = Wish::Switched { label: bench.label.clone(), version, unload_first: false };
        encoders.wish(wish).await.unwrap();
        assert_eq!(encoders.answering(), Some(version.get()));
    }
    assert_eq!(*bench.stage.loaded.lock(), [1, 2], "none was loaded twice");
}

#[tokio::test]
async fn who_moves_a_label_is_told_when_it_is_done_or_why_not() {
    let bench = Bench::new();
    let encoders = bench.ready(bench.options()).await;
    let move_to = |version: Version| {
        bench.point_at(version);
        encoders.wish(Wish::Switched { label: bench.label.clone(), version, unload_first: false })
    };
    assert_eq!(move_to(bench.publish("ok")).await, Ok(()));
    assert_eq!(encoders.answering(), Some(2));
    let bad = bench.publish("bad");
    let reason = "golden row 3 differs".to_owned();
    assert_eq!(move_to(bad).await, Err(Refused::Failed { version: bad, reason }));
    let late = Wish::Switched { label: bench.label.clone(), version: Version::FIRST, unload_first: false };
    assert_eq!(encoders.wish(late).await, Err(Refused::Moved { label: bench.label.clone(), now: Some(bad) }));
}

#[tokio::test]
async fn a_version_is_loaded_and_unloaded_on_request_unless_a_label_needs_it() {
    let bench = Bench::new();
    let encoders = bench.ready(bench.options()).await;
    let two = bench.publish("ok");
    encoders.wish(Wish::Loaded { version: two, unload_first: false }).await.unwrap();
    assert_eq!(encoders.resolve(Some("2")).unwrap().opened().version, 2);
    assert_eq!(encoders.answering(), Some(1));
    let needed = Refused::Needed { label: bench.label.clone(), version: Version::FIRST };
    assert_eq!(encoders.wish(Wish::Unloaded { version: Version::FIRST }).await, Err(needed));
    encoders.wish(Wish::Unloaded { version: two }).await.unwrap();
    encoders.reaches(2, VersionState::Ended).await;
    assert!(encoders.resolve(Some("2")).is_err());
}

#[tokio::test]
async fn of_many_versions_published_while_one_loads_only_the_newest_is_loaded() {
    let bench = Bench::new();
    let options = ModelOptions { policy: "latest = 1".parse().unwrap(), ..bench.options() };
    let encoders = bench.ready(options).await;
    let (gate, keeper) = gate();
    *bench.stage.loads.lock() = Some(gate);
    bench.publish("ok");
    keeper.began.recv_timeout(LONG).unwrap();
    for _ in 0..50 {
        bench.publish("ok");
    }
    encoders.reaches(52, VersionState::Loading).await;
    for _ in 0..50 {
        keeper.go.send(()).unwrap();
    }
    encoders.reaches(52, VersionState::Available).await;
    encoders.reaches(2, VersionState::Ended).await;
    assert_eq!(encoders.answering(), Some(1), "the label says so");
    let loaded = bench.stage.loaded.lock().clone();
    assert!(loaded.len() < 6, "{loaded:?}");
}

/// Makes the server look at the registry now: whoever asks for something does.
async fn look(encoders: &Encoders) {
    let nowhere = Version::new(99).unwrap();
    encoders.wish(Wish::Unloaded { version: nowhere }).await.unwrap();
}

#[tokio::test]
async fn what_was_chosen_by_the_policy_serves_on_while_it_cannot_be_read_and_when_nothing_else_is_left() {
    let bench = Bench::new();
    let options = ModelOptions { policy: "latest = 1".parse().unwrap(), ..bench.options() };
    let (one, two) = (bench.publish("ok"), bench.publish("ok"));
    let encoders = bench.start(options);
    encoders.answers(2).await;
    let folder = |version| bench.dir.path().join("registry/models/minilm").join(Version::to_string(&version));
    fs::write(folder(two).join("config.json"), "o").unwrap();
    assert_eq!(bench.registry().versions(&bench.model).unwrap().unusable.len(), 1);
    look(&encoders).await;
    assert_eq!((encoders.answering(), encoders.states().len()), (Some(2), 1));
    // Removed is another matter: the next newest comes.
    fs::remove_dir_all(folder(two)).unwrap();
    encoders.answers(1).await;
    encoders.states.until(|inner| inner.state(2).is_none()).await;
    fs::remove_dir_all(folder(one)).unwrap();
    look(&encoders).await;
    assert_eq!(encoders.answering(), Some(1), "better than nothing");
}

#[tokio::test]
async fn a_version_that_does_not_fit_is_refused_with_what_it_needs_and_fits_if_the_old_one_goes_first() {
    let bench = Bench::new();
    let options = ModelOptions { memory_budget_bytes: 150 << 20, ..bench.options() };
    let publish = || {
        let files = tempfile::tempdir().unwrap();
        fs::write(files.path().join("config.json"), "ok").unwrap();
        let request = PublishRequest::from_folder(&bench.model, "bert", TEXT_EMBEDDING, files.path()).unwrap();
        bench.registry().publish(&PublishRequest { memory_bytes: Some(100 << 20), ..request }).unwrap().version
    };
    bench.point_at(publish());
    let encoders = bench.start(options);
    encoders.answers(1).await;
    let version = publish();
    bench.point_at(version);
    let wish = |unload_first| Wish::Switched { label: bench.label.clone(), version, unload_first };
    let Err(Refused::Failed { reason, .. }) = encoders.wish(wish(false)).await else { panic!("it fits?") };
    assert_eq!(reason, "it needs 100 MiB of memory, and 50 MiB of a budget of 150 MiB are free");
    assert_eq!((encoders.answering(), bench.stage.loaded.lock().len()), (Some(1), 1), "nothing was read");
    encoders.wish(wish(true)).await.unwrap();
    assert_eq!(encoders.answering(), Some(2));
    encoders.reaches(1, VersionState::Ended).await;
}
