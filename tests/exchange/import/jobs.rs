//! Jobs: cancelled, resumed, taken over, taken back.

use super::*;

#[tokio::test]
async fn a_cancelled_job_is_resumed_without_doubling() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let mut text = String::from("First,Last,Mail,Title\n");
    for row in 0..50 {
        text.push_str(&format!("A,B,p{}@x.example,\n", row % 40));
    }
    let source = csv(&text);
    let import = Import {
        batch_size: 7,
        ..upsert(contacts(), "email")
    };
    let job = session.import().start(&source, &import).await.unwrap().id;
    let stop = |done: u64, _: Option<u64>| {
        if done < 20 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    let stopped = session.import().run(job, &source, &stop).await.unwrap();
    assert_eq!(stopped.status, ImportStatus::Cancelled);
    assert_eq!(stopped.counts.processed_rows, 21);
    assert_eq!(stopped.counts.total_rows, Some(50));
    let other = csv("First,Last,Mail,Title\n");
    let error = session.import().run(job, &other, &()).await.unwrap_err();
    assert!(matches!(error, ImportError::OtherFile), "{error}");
    let done = session.import().run(job, &source, &()).await.unwrap();
    assert_eq!(done.status, ImportStatus::Completed);
    assert_eq!(figures(&done.counts), [40, 0, 0, 10, 0]);
    assert_eq!(session.contacts().count(Find::new()).await.unwrap(), 40);
    let error = session.import().run(job, &source, &()).await.unwrap_err();
    assert!(
        matches!(&error, ImportError::Crm(error) if error.code() == "import_ended"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_from_elsewhere_stops_the_worker_after_its_batch() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let text: String = (0..30)
        .map(|row| format!("A,B,p{row}@x.example,\n"))
        .collect();
    let source = csv(&format!("First,Last,Mail,Title\n{text}"));
    let import = Import {
        batch_size: 10,
        ..Import::new(contacts())
    };
    let job = session.import().start(&source, &import).await.unwrap().id;
    let other = session.clone();
    let cancel = move |done: u64, _: Option<u64>| {
        if done == 10 {
            let other = other.clone();
            std::thread::scope(|scope| {
                let cancelled = scope.spawn(|| {
                    let runtime = tokio::runtime::Runtime::new().unwrap();
                    runtime.block_on(async { other.import().cancel(job).await.map(|_| ()) })
                });
                cancelled.join().unwrap().unwrap();
            });
        }
        ControlFlow::Continue(())
    };
    let done = session.import().run(job, &source, &cancel).await.unwrap();
    assert_eq!(done.status, ImportStatus::Cancelled);
    assert_eq!(session.contacts().count(Find::new()).await.unwrap(), 10);
}

#[tokio::test]
async fn an_import_is_taken_back_except_what_was_changed_since() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let known = Contact {
        email: Some("known@x.example".parse().unwrap()),
        custom_fields: json!({"kept": 1, "changed": "old"}),
        tags: vec!["old".into()],
        ..Contact::named("Old", "Name")
    };
    let known = session.contacts().create(known).await.unwrap();
    let source = csv("First,Last,Mail,Title,Tags,C,D\n\
        New,Name,known@x.example,Boss,new,x,y\n\
        One,A,one@x.example,,,,\n\
        Two,B,two@x.example,,,,\n\
        Three,C,three@x.example,,,,\n");
    let mapping = contacts()
        .column("Tags", "tags")
        .column("C", "custom_fields.changed")
        .column("D", "custom_fields.added");
    let (job, done) = run(&session, &source, &upsert(mapping, "email")).await;
    assert_eq!(figures(&done.counts), [3, 1, 0, 0, 0]);
    let changed = session.contacts().get(known.id).await.unwrap();
    assert_eq!(
        changed.custom_fields,
        json!({"kept": 1, "changed": "x", "added": "y"})
    );
    let two = session
        .contacts()
        .find_one(Find::new().filter_by_name(Filter::eq("last_name", "B")))
        .await
        .unwrap()
        .unwrap();
    session
        .contacts()
        .update(two.id, |contact| contact.department = Some("Ops".into()))
        .await
        .unwrap();

    let reverted = session.import().revert(job, &()).await.unwrap();
    assert_eq!(
        (reverted.deleted, reverted.restored, reverted.kept),
        (2, 1, 1)
    );
    let back = session.contacts().get(known.id).await.unwrap();
    assert_eq!(back.data, known.data);
    assert_eq!(session.contacts().count(Find::new()).await.unwrap(), 2);
    let kept: Vec<ImportRow> = entries(&session, job)
        .await
        .into_iter()
        .filter(|row| row.phase == ImportPhase::Revert)
        .collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].record_id, Some(two.id.uuid()));
    assert_eq!(kept[0].row_faults()[0].code, "changed_since");
    let job = session.records::<ImportJob>().get(job).await.unwrap();
    assert_eq!(job.status, ImportStatus::Reverted);
    // Once more does nothing.
    let again = session.import().revert(job.id, &()).await.unwrap();
    assert_eq!((again.deleted, again.kept), (0, 0));
}

#[tokio::test]
async fn a_job_that_has_begun_keeps_its_plan_and_one_worker() {
    let crm = crm();
    let (_, session) = tenant(&crm, "acme").await;
    let source = csv("First,Last,Mail,Title\nA,B,c@x.example,\n");
    let job = session
        .import()
        .start(&source, &Import::new(contacts()))
        .await
        .unwrap()
        .id;
    let lease = |number, take_over| crm_engine::imports::ImportLease {
        worker: uuid::Uuid::from_u128(number),
        take_over,
    };
    let jobs = || session.records::<ImportJob>();
    jobs().claim(job, lease(1, false)).await.unwrap();
    let error = jobs().claim(job, lease(2, false)).await.unwrap_err();
    assert_eq!(error.code(), "import_running");
    let error = jobs().revert(job, &()).await.unwrap_err();
    assert_eq!(error.code(), "import_running");
    let error = jobs()
        .update(job, |job| job.mode = ImportMode::Upsert)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "import_started");
    let error = jobs()
        .update(job, |job| job.status = ImportStatus::Completed)
        .await
        .unwrap_err();
    assert_eq!(error.field_errors()[0].code, "read_only");
    jobs().claim(job, lease(2, true)).await.unwrap();
    let wrong = ImportJob::new("import_row", "x", "y", json!({}));
    let error = jobs().create(wrong).await.unwrap_err();
    assert_eq!(error.field_errors()[0].path, "object");
}
