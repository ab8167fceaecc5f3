//! Comments, mentions, notes, followers and tags (C-210), on records of any object.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use crate::common;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::{Populated, Property, backend, crm, populate, tenant};
use crm_engine::collaboration::TagCount;
use crm_engine::prelude::*;
use proptest::prelude::*;
use uuid::Uuid;

async fn office() -> (Crm, Populated, Session) {
    let crm = crm();
    let office = populate(&crm, "acme").await;
    let grace = crm.session(office.onboarded.tenant, Actor::User(office.user));
    (crm, office, grace)
}

async fn property(session: &Session) -> Id<Property> {
    let found = session.records::<Property>().find(Find::new()).await;
    found.unwrap().items[0].id
}

async fn mentioned(session: &Session, comment: Id<Comment>) -> BTreeSet<Id<User>> {
    let of_comment = Mention::COMMENT_ID.eq(comment);
    let mentions = session.mentions().find(of_comment).await.unwrap();
    mentions
        .items
        .iter()
        .map(|mention| mention.user_id)
        .collect()
}

fn paths(error: &Error) -> Vec<&str> {
    let errors = error.field_errors().iter();
    errors.map(|error| error.path.as_str()).collect()
}

#[tokio::test]
async fn records_of_any_object_have_comments_and_notes() {
    let (_, office, grace) = office().await;
    let ada = &office.session;
    let home = property(ada).await;
    let records: [EntityRef; 3] = [office.contact.into(), office.deal.into(), home.into()];
    for record in records {
        let first = ada
            .comments()
            .write(record.clone(), "Who knows more?")
            .await
            .unwrap();
        let answer = grace.comments().reply(first.id, "I do.").await.unwrap();
        let note = grace
            .comments()
            .note(record.clone(), "Key", "Under the mat.")
            .await
            .unwrap();
        assert_eq!(answer.reply_to_id, Some(first.id));
        assert_eq!(note.kind, CommentKind::Note);
        grace.comments().pin(note.id, true).await.unwrap();
        let page = ada.comments().of(record.clone(), None).await.unwrap();
        let ids: Vec<_> = page.items.iter().map(|comment| comment.id).collect();
        let all: Vec<_> = [note.id, first.id, answer.id]
            .into_iter()
            .filter(|id| ids.contains(id))
            .collect();
        // The office itself comes with a comment on its contact.
        assert_eq!(all.len(), 3);
        assert_eq!(ids[0], note.id, "what is pinned comes first");
    }
}

#[tokio::test]
async fn comments_are_on_records_that_there_are() {
    let (_, office, _) = office().await;
    let session = &office.session;
    let nowhere = EntityRef::new("contact", Uuid::from_u128(7));
    let error = session
        .comments()
        .write(nowhere, "hello")
        .await
        .unwrap_err();
    assert_eq!(paths(&error), ["record_id"]);
    let unknown = EntityRef::new("unicorn", office.contact);
    let error = session
        .comments()
        .write(unknown, "hello")
        .await
        .unwrap_err();
    assert_eq!(error.code(), "validation");
    let error = session
        .comments()
        .write(office.contact, "  ")
        .await
        .unwrap_err();
    assert_eq!(paths(&error), ["body"]);
    // An answer is on the record of what it answers.
    let first = session
        .comments()
        .write(office.contact, "hello")
        .await
        .unwrap();
    let elsewhere = Comment {
        reply_to_id: Some(first.id),
        ..Comment::new("deal", office.deal, "hello")
    };
    let error = session.comments().create(elsewhere).await.unwrap_err();
    assert_eq!(paths(&error), ["reply_to_id"]);
}

#[tokio::test]
async fn comments_and_followers_go_and_come_back_with_their_record() {
    let (_, office, grace) = office().await;
    let session = &office.session;
    let comment = session
        .comments()
        .write(office.deal, "ask @grace")
        .await
        .unwrap();
    session
        .followers()
        .follow(office.deal, office.user)
        .await
        .unwrap();
    session.deals().delete(office.deal).await.unwrap();
    assert!(session.comments().get(comment.id).await.is_err());
    assert!(
        session
            .followers()
            .of(office.deal)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(mentioned(session, comment.id).await.is_empty());
    let error = grace
        .comments()
        .write(office.deal, "too late")
        .await
        .unwrap_err();
    assert_eq!(paths(&error), ["record_id"]);
    session.deals().restore(office.deal).await.unwrap();
    assert_eq!(
        session.comments().get(comment.id).await.unwrap().body,
        "ask @grace"
    );
    assert_eq!(
        session.followers().of(office.deal).await.unwrap(),
        [office.user]
    );
    assert_eq!(mentioned(session, comment.id).await, [office.user].into());
}

#[tokio::test]
async fn mentions_follow_the_text() {
    let (_, office, grace) = office().await;
    let ada = &office.session;
    let named = |name: &str| {
        let name = name.to_owned();
        move |user: &mut User| user.username = Some(name.clone())
    };
    ada.users()
        .update(office.onboarded.admin, named("Ada.L"))
        .await
        .unwrap();
    let text = "@GRACE and @ada.l: see @nobody, mail grace@acme.example";
    let comment = grace.comments().write(office.deal, text).await.unwrap();
    let both: BTreeSet<_> = [office.user, office.onboarded.admin].into();
    assert_eq!(mentioned(ada, comment.id).await, both);

    let unread = ada
        .mentions()
        .unread(office.onboarded.admin, None)
        .await
        .unwrap();
    let mine: Vec<_> = unread.items.iter().map(|mention| mention.id).collect();
    assert_eq!(mine.len(), 1);
    // Nobody marks what another user has not seen.
    assert_eq!(
        ada.mentions().mark_read(office.user, &mine).await.unwrap(),
        0
    );
    let count = ada
        .mentions()
        .mark_read(office.onboarded.admin, &mine)
        .await
        .unwrap();
    assert_eq!(count, 1);
    assert_eq!(
        ada.mentions()
            .mark_read(office.onboarded.admin, &mine)
            .await
            .unwrap(),
        0
    );
    let unread = ada
        .mentions()
        .unread(office.onboarded.admin, None)
        .await
        .unwrap();
    assert!(unread.items.is_empty());

    // Who stays mentioned has not to read it again; who is not any more has no mention left.
    let edited = grace
        .comments()
        .edit(comment.id, "just @Ada.L")
        .await
        .unwrap();
    assert!(edited.edited_at.is_some());
    assert_eq!(
        mentioned(ada, comment.id).await,
        [office.onboarded.admin].into()
    );
    let unread = ada
        .mentions()
        .unread(office.onboarded.admin, None)
        .await
        .unwrap();
    assert!(unread.items.is_empty());
    // A mention that a host added by hand stays.
    ada.mentions()
        .create(Mention::new(comment.id, office.user))
        .await
        .unwrap();
    grace.comments().edit(comment.id, "just me").await.unwrap();
    assert_eq!(mentioned(ada, comment.id).await, [office.user].into());
}

/// A pasted text may hold more words behind an `@` than one question to the storage may name, and the
/// name of another tenant's user, who is never told of.
#[tokio::test]
async fn any_number_of_words_may_look_like_mentions() {
    let (crm, office, grace) = office().await;
    let other = populate(&crm, "other").await;
    let stranger = |user: &mut User| user.username = Some("stranger".into());
    let mut theirs = other.session.users();
    theirs.update(other.user, stranger).await.unwrap();
    let words = (0..Filter::MAX_VALUES).map(|number| format!("@word{number} "));
    let text: String = words.chain(["@stranger @grace".to_owned()]).collect();
    let comment = grace.comments().write(office.deal, &text).await.unwrap();
    let told = mentioned(&office.session, comment.id).await;
    assert_eq!(told, [office.user].into());
    let unread = other.session.mentions().unread(other.user, None).await;
    let ids: Vec<_> = unread
        .unwrap()
        .items
        .iter()
        .map(|it| it.comment_id)
        .collect();
    assert!(!ids.contains(&comment.id));
}

#[tokio::test]
async fn only_the_author_changes_the_text() {
    let (crm, office, grace) = office().await;
    let comment = grace.comments().write(office.deal, "mine").await.unwrap();
    let error = office
        .session
        .comments()
        .edit(comment.id, "yours")
        .await
        .unwrap_err();
    assert_eq!(error.code(), "forbidden");
    let patch = serde_json::json!({"body": "yours"});
    let patch = patch.as_object().unwrap();
    let merged = office.session.object("comment").await.unwrap();
    let error = { merged }
        .merge(comment.id.uuid(), 1, patch)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "forbidden");
    // Others may pin and delete it; the system may mend it.
    office
        .session
        .comments()
        .pin(comment.id, true)
        .await
        .unwrap();
    let system = crm.session(office.onboarded.tenant, Actor::System);
    system.comments().edit(comment.id, "mended").await.unwrap();
    office.session.comments().delete(comment.id).await.unwrap();
}

#[tokio::test]
async fn a_user_follows_a_record_once() {
    let (_, office, grace) = office().await;
    let ada = &office.session;
    let home = property(ada).await;
    let follow = |session: &Session| {
        let session = session.clone();
        async move {
            session
                .followers()
                .follow(home, office.user)
                .await
                .unwrap()
                .id
        }
    };
    let ids = futures::future::join_all([follow(ada), follow(&grace), follow(ada)]).await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(ada.followers().of(home).await.unwrap(), [office.user]);
    let followed = ada
        .followers()
        .followed_by(office.user, None)
        .await
        .unwrap();
    assert_eq!(followed.items[0], EntityRef::from(home));
    assert!(ada.followers().unfollow(home, office.user).await.unwrap());
    assert!(!ada.followers().unfollow(home, office.user).await.unwrap());
    assert!(ada.followers().of(home).await.unwrap().is_empty());
    // A user who left the tenant follows nothing.
    ada.followers()
        .follow(office.contact, office.user)
        .await
        .unwrap();
    let mut work = ada.begin();
    work.followers().follow(home, office.user).await.unwrap();
    assert_eq!(work.followers().of(home).await.unwrap(), [office.user]);
    work.commit().await.unwrap();
}

fn counted(counts: &[TagCount]) -> BTreeMap<&str, (u64, u64, u64)> {
    let of = |tag: &TagCount| (tag.of("account"), tag.of("contact"), tag.total());
    counts
        .iter()
        .map(|tag| (tag.tag.as_str(), of(tag)))
        .collect()
}

#[tokio::test]
async fn tags_are_counted_over_all_objects() {
    let (crm, office, _) = office().await;
    let session = &office.session;
    let tagged = |tags: &[&str]| tags.iter().map(ToString::to_string).collect::<Vec<_>>();
    for (name, tags) in [("A", &["vip", "north"][..]), ("B", &["vip"]), ("C", &[])] {
        let tags = tagged(tags);
        session
            .accounts()
            .create(Account {
                tags,
                ..Account::new(name)
            })
            .await
            .unwrap();
    }
    let tags = tagged(&["VIP", "north"]);
    let contact = Contact {
        tags,
        ..Contact::named("Ann", "Other")
    };
    let contact = session.contacts().create(contact).await.unwrap();
    let deleted = Contact {
        tags: tagged(&["vip"]),
        ..Contact::named("Gone", "Away")
    };
    let deleted = session.contacts().create(deleted).await.unwrap();
    session.contacts().delete(deleted.id).await.unwrap();
    session.contacts().archive(contact.id).await.unwrap();
    populate(&crm, "other").await;

    let counts = session.tags().counts().await.unwrap();
    let expected: BTreeMap<_, _> = [
        ("VIP", (0, 1, 1)),
        ("key", (1, 0, 1)),
        ("north", (1, 1, 2)),
        ("vip", (2, 0, 2)),
    ]
    .into();
    assert_eq!(counted(&counts), expected);
}

/// An object of a host.
#[derive(Clone, PartialEq, Entity)]
#[entity(object = "ship", table = "ships")]
struct Ship {
    /// What it is called.
    #[field(required, max_len = 50)]
    name: String,
    /// Its tags.
    tags: Vec<String>,
}

/// C-032: a list `tags` is all that an object of a host needs to have its tags counted and renamed
/// like those of others.
#[tokio::test]
async fn records_of_a_hosts_objects_have_tags() {
    let crm = Crm::builder(backend::storage(&[Ship::schema()]))
        .object::<Ship>()
        .build();
    let (_, session) = tenant(&crm, "acme").await;
    let mut ids = Vec::new();
    for (name, tags) in [("Argo", &["fast", "old"][..]), ("Beagle", &["fast"])] {
        let tags = tags.iter().map(ToString::to_string).collect();
        let name = name.to_owned();
        let ship = session.records().create(Ship { name, tags }).await;
        ids.push(ship.unwrap().id);
    }
    let counts = session.tags().counts().await.unwrap();
    let counts = counts.iter().map(|one| (one.tag.as_str(), one.of("ship")));
    let counts: Vec<_> = counts.collect();
    assert_eq!(counts, [("fast", 2), ("old", 1)]);
    let renamed = session.tags().rename("fast", "quick", &()).await;
    assert_eq!(renamed.unwrap(), 2);
    let argo = session.records::<Ship>().get(ids[0]).await.unwrap();
    assert_eq!(argo.tags, ["quick", "old"]);
}

#[tokio::test]
async fn a_tag_gets_another_name_everywhere() {
    let (crm, office, _) = office().await;
    let session = &office.session;
    let other = populate(&crm, "other").await;
    let mut work = session.begin();
    for number in 0..1_203_u32 {
        let mut tags = vec!["old".to_owned(), format!("n{}", number % 3)];
        if number % 5 == 0 {
            tags.insert(0, "new".to_owned());
        }
        let name = format!("Account {number}");
        work.accounts()
            .create(Account {
                tags,
                ..Account::new(name)
            })
            .await
            .unwrap();
    }
    work.commit().await.unwrap();
    let deal = |deal: &mut Deal| deal.tags = vec!["old".into()];
    session.deals().update(office.deal, deal).await.unwrap();
    let theirs = |account: &mut Account| account.tags = vec!["old".into()];
    other
        .session
        .accounts()
        .update(other.account, theirs)
        .await
        .unwrap();

    // Stopped on the way, the rest is done by the same call.
    let reports = AtomicU64::new(0);
    let once = |_: u64, _: Option<u64>| match reports.fetch_add(1, Ordering::Relaxed) {
        0 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let begun = session.tags().rename("old", "new", &once).await.unwrap();
    assert!(begun > 0 && begun < 1_204, "{begun}");
    let rest = session.tags().rename(" old ", " new ", &()).await.unwrap();
    assert_eq!(begun + rest, 1_204);
    assert_eq!(session.tags().rename("old", "new", &()).await.unwrap(), 0);

    let counts = session.tags().counts().await.unwrap();
    let new = counts.iter().find(|tag| tag.tag == "new").unwrap();
    assert_eq!((new.of("account"), new.of("deal")), (1_203, 1));
    assert!(counts.iter().all(|tag| tag.tag != "old"));
    let found = session
        .accounts()
        .find_one(Account::NAME.eq("Account 5"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        found.tags,
        ["new", "n2"],
        "each tag once, in the same order"
    );
    assert_eq!(found.version, 2, "an ordinary change");
    let theirs = other.session.accounts().get(other.account).await.unwrap();
    assert_eq!(theirs.tags, ["old"], "other tenants keep theirs");

    assert_eq!(session.tags().remove("new", &()).await.unwrap(), 1_204);
    let counts = session.tags().counts().await.unwrap();
    assert!(counts.iter().all(|tag| tag.tag != "new"));
    let error = session.tags().rename("n1", " ", &()).await.unwrap_err();
    assert_eq!(paths(&error), ["tags"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Whatever is done to records, the counts are those of the records.
    #[test]
    fn counts_are_those_of_the_records(
        steps in prop::collection::vec((0_u8..4, 0_usize..6, "[ab]{1,2}", "[ab]{1,2}"), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let crm = crm();
            let session = common::tenant(&crm, "acme").await.1;
            let mut ids: Vec<Id<Contact>> = Vec::new();
            for (step, place, one, two) in steps {
                let tags = vec![one.clone(), two.clone()];
                match (step, ids.get(place)) {
                    (1, Some(id)) => {
                        let edit = |contact: &mut Contact| contact.tags = tags.clone();
                        session.contacts().update(*id, edit).await.unwrap();
                    }
                    (2, Some(_)) => {
                        session.contacts().delete(ids.remove(place)).await.unwrap();
                    }
                    (3, _) => {
                        session.tags().rename(&one, &two, &()).await.unwrap();
                    }
                    _ => {
                        let contact = Contact { tags, ..Contact::named("Ann", "Other") };
                        ids.push(session.contacts().create(contact).await.unwrap().id);
                    }
                }
                let mut expected: BTreeMap<String, u64> = BTreeMap::new();
                for contact in session.contacts().get_all(&ids).await.unwrap() {
                    for tag in &contact.tags {
                        *expected.entry(tag.clone()).or_default() += 1;
                    }
                }
                let counts = session.tags().counts().await.unwrap();
                let counts: BTreeMap<_, _> =
                    counts.iter().map(|tag| (tag.tag.clone(), tag.total())).collect();
                assert_eq!(counts, expected);
            }
        });
    }
}
