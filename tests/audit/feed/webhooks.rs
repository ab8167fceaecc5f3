//! Webhooks: what is sent, how it is signed, when it is tried again, and where nothing is ever sent.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use chrono::TimeDelta;
use crm_engine::audit::MASK;
use crm_engine::audit::webhook::{
    DeliveryReport, DeliveryStatus, RetrySchedule, Transport, TransportError, WebhookDelivery,
    WebhookRequest, WebhookResponse, WebhookSecret,
};
use crm_engine::audit::{Erasure, Treatment};
use crm_engine::prelude::*;
use serde_json::Value as Json;

use super::{MOST_ASKED, Office};

/// A receiver that answers as it was told to.
#[derive(Default)]
struct Receiver {
    addresses: Mutex<Vec<IpAddr>>,
    answers: Mutex<VecDeque<Result<WebhookResponse, TransportError>>>,
    requests: Mutex<Vec<WebhookRequest>>,
}

impl Receiver {
    fn at(address: &str) -> Self {
        Self {
            addresses: Mutex::new(vec![address.parse().unwrap()]),
            ..Self::default()
        }
    }

    fn public() -> Self {
        Self::at("93.184.215.14")
    }

    fn answer(&self, answer: Result<WebhookResponse, TransportError>) {
        self.answers.lock().unwrap().push_back(answer);
    }

    fn requests(&self) -> Vec<WebhookRequest> {
        std::mem::take(&mut *self.requests.lock().unwrap())
    }
}

#[async_trait::async_trait]
impl Transport for Receiver {
    async fn resolve(
        &self,
        host: &str,
        _port: u16,
    ) -> std::result::Result<Vec<IpAddr>, TransportError> {
        assert!(
            host.parse::<IpAddr>().is_ok() || host == "hooks.example.com",
            "{host}"
        );
        Ok(self.addresses.lock().unwrap().clone())
    }

    async fn post(
        &self,
        request: &WebhookRequest,
    ) -> std::result::Result<WebhookResponse, TransportError> {
        // Others get their turn while this is under way.
        tokio::task::yield_now().await;
        self.requests.lock().unwrap().push(request.clone());
        let answer = self.answers.lock().unwrap().pop_front();
        answer.unwrap_or(Ok(WebhookResponse::new(204)))
    }
}

fn secret(byte: u8) -> WebhookSecret {
    WebhookSecret::from_bytes(&[byte; 32]).unwrap()
}

fn accounts() -> WebhookSubscription {
    WebhookSubscription {
        objects: vec!["account".into()],
        secret: Some(secret(7).expose()),
        ..WebhookSubscription::new(
            "Billing",
            "https://hooks.example.com/crm?tenant=7"
                .parse::<HttpUrl>()
                .unwrap(),
        )
    }
}

async fn subscribe(office: &Office, subscription: WebhookSubscription) -> Id<WebhookSubscription> {
    let made = office
        .session
        .records::<WebhookSubscription>()
        .create(subscription)
        .await;
    made.unwrap().id
}

async fn assert_nothing_is_due(office: &Office, receiver: &Receiver) {
    let webhooks = office.session.webhooks();
    let delivered = webhooks.deliver_due(receiver, 10).await.unwrap();
    assert!(delivered.is_idle());
}

/// Delivers until so many deliveries were made of events.
async fn deliver(office: &Office, receiver: &Receiver, queued: usize) -> DeliveryReport {
    let mut total = DeliveryReport::default();
    for _ in 0..MOST_ASKED {
        let report = office
            .session
            .webhooks()
            .deliver_due(receiver, 100)
            .await
            .unwrap();
        total.queued += report.queued;
        total.delivered += report.delivered;
        total.failed += report.failed;
        total.dead += report.dead;
        if total.queued >= queued {
            return total;
        }
        super::common::pause().await;
    }
    panic!("{queued} deliveries were expected: {total:?}");
}

async fn deliveries(office: &Office) -> Vec<std::sync::Arc<Record<WebhookDelivery>>> {
    let all = Find::<WebhookDelivery>::new().limit(1_000);
    office
        .session
        .records::<WebhookDelivery>()
        .find(all)
        .await
        .unwrap()
        .items
}

#[tokio::test]
async fn events_are_sent_signed_to_the_address_that_was_checked() {
    let office = Office::open().await;
    office.account("Before the subscription").await;
    office.pass(TimeDelta::seconds(1));
    subscribe(&office, accounts()).await;
    let globex = office.account("Globex").await;
    office
        .session
        .contacts()
        .create(Contact::named("Ada", "Lovelace"))
        .await
        .unwrap();

    let receiver = Receiver::public();
    let report = deliver(&office, &receiver, 1).await;
    assert_eq!((report.queued, report.delivered), (1, 1));
    let requests = receiver.requests();
    let [request] = &requests[..] else {
        panic!("{requests:?}")
    };
    assert_eq!(request.url, "https://hooks.example.com/crm?tenant=7");
    assert_eq!(request.host, "hooks.example.com");
    assert_eq!(request.address, "93.184.215.14:443".parse().unwrap());

    let header = |name| request.header(name).unwrap();
    let event = office
        .session
        .audit()
        .trail(globex)
        .await
        .unwrap()
        .remove(0);
    assert_eq!(header("webhook-id"), event.id.uuid().to_string());
    let timestamp: i64 = header("webhook-timestamp").parse().unwrap();
    assert_eq!(
        timestamp,
        crm_engine::engine::Clock::now(&*office.clock).timestamp()
    );
    let signed = |secret: &WebhookSecret| {
        secret.verify(
            header("webhook-signature"),
            header("webhook-id"),
            timestamp,
            &request.body,
        )
    };
    assert!(signed(&secret(7)) && !signed(&secret(8)));

    let body: Json = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body["type"], "account.create");
    assert_eq!(body["data"]["record_id"], globex.uuid().to_string());
    assert_eq!(body["data"]["changes"]["name"]["new"], "Globex");
    // Nothing more is due.
    assert_nothing_is_due(&office, &receiver).await;
    assert_eq!(receiver.requests(), []);
}

#[tokio::test]
async fn a_subscription_says_which_events_it_wants_and_what_may_be_told() {
    let office = Office::open().await;
    let subscription = WebhookSubscription {
        objects: vec!["contact".into()],
        events: vec!["update".into()],
        previous_secret: Some(secret(8).expose()),
        ..accounts()
    };
    subscribe(&office, subscription).await;
    let ada = office
        .session
        .contacts()
        .create(Contact::named("Ada", "Lovelace"))
        .await
        .unwrap()
        .id;
    office.account("Globex").await;
    let mail = |contact: &mut Contact| {
        contact.email = Some(EmailAddress::parse("ada@lovelace.example").unwrap());
    };
    office.session.contacts().update(ada, mail).await.unwrap();

    let receiver = Receiver::public();
    assert_eq!(deliver(&office, &receiver, 1).await.delivered, 1);
    let request = receiver.requests().remove(0);
    let body: Json = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(
        (&body["type"], &body["data"]["changes"]["email"]["new"]),
        (&"contact.update".into(), &MASK.into())
    );
    assert!(!format!("{request:?}").contains("tenant=7"));
    // While a secret is changed, both sign.
    let signatures = request.header("webhook-signature").unwrap();
    let timestamp = request
        .header("webhook-timestamp")
        .unwrap()
        .parse()
        .unwrap();
    for byte in [7, 8] {
        assert!(secret(byte).verify(
            signatures,
            request.header("webhook-id").unwrap(),
            timestamp,
            &request.body
        ));
    }
}

#[tokio::test]
async fn what_fails_is_tried_again_and_given_up_in_the_end() {
    let office = Office::open().await;
    let subscription = subscribe(&office, accounts()).await;
    office.account("Globex").await;
    let receiver = Receiver::public();
    let schedule = RetrySchedule {
        first: TimeDelta::seconds(10),
        factor: 2,
        longest: TimeDelta::hours(1),
        attempts: 3,
    };
    let webhooks = office.session.webhooks().schedule(schedule);
    receiver.answer(Ok(
        WebhookResponse::new(503).retry_after(Duration::from_secs(300))
    ));
    receiver.answer(Err(TransportError::new("timeout")));
    receiver.answer(Ok(WebhookResponse::new(302)));

    let mut report = DeliveryReport::default();
    for _ in 0..MOST_ASKED {
        report = webhooks.deliver_due(&receiver, 10).await.unwrap();
        if report.queued > 0 {
            break;
        }
        super::common::pause().await;
    }
    assert_eq!((report.queued, report.failed), (1, 1));
    // Not before its time, which the receiver asked to be later than by the schedule.
    office.pass(TimeDelta::seconds(299));
    assert!(webhooks.deliver_due(&receiver, 10).await.unwrap().is_idle());
    office.pass(TimeDelta::seconds(1));
    assert_eq!(webhooks.deliver_due(&receiver, 10).await.unwrap().failed, 1);
    let delivery = deliveries(&office).await.remove(0);
    assert_eq!(
        (delivery.attempts, delivery.last_error.as_deref()),
        (2, Some("timeout"))
    );
    office.pass(TimeDelta::seconds(26));
    assert_eq!(webhooks.deliver_due(&receiver, 10).await.unwrap().dead, 1);
    office.pass(TimeDelta::days(30));
    assert!(webhooks.deliver_due(&receiver, 10).await.unwrap().is_idle());

    let ids: Vec<_> = receiver
        .requests()
        .iter()
        .map(|one| one.header("webhook-id").unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(
        ids.iter().all(|id| *id == ids[0]),
        "one message, however often it is sent"
    );

    let dead = webhooks
        .dead_letters(subscription, 10, None)
        .await
        .unwrap()
        .items;
    assert_eq!(
        (dead.len(), dead[0].last_status, dead[0].status),
        (1, Some(302), DeliveryStatus::Dead)
    );
    webhooks.replay(dead[0].id).await.unwrap();
    assert_eq!(
        webhooks.deliver_due(&receiver, 10).await.unwrap().delivered,
        1
    );
    assert_eq!(
        webhooks
            .dead_letters(subscription, 10, None)
            .await
            .unwrap()
            .items,
        []
    );
    // What was delivered is forgotten when the host says so.
    let now = crm_engine::engine::Clock::now(&*office.clock);
    assert_eq!(webhooks.forget_delivered(now, 10).await.unwrap(), 0);
    assert_eq!(
        webhooks
            .forget_delivered(now + TimeDelta::seconds(1), 10)
            .await
            .unwrap(),
        1
    );
    assert_eq!(deliveries(&office).await, []);
}

#[tokio::test]
async fn nothing_is_sent_to_an_address_inside() {
    let office = Office::open().await;
    // Told at once, where it can be.
    for (url, code) in [
        ("http://hooks.example.com/", "not_https"),
        ("https://127.0.0.1/", "not_public"),
        ("https://[::ffff:10.0.0.1]/", "not_public"),
        ("https://localhost:8443/", "not_public"),
        ("https://169.254.169.254/latest/meta-data", "not_public"),
    ] {
        let inside = WebhookSubscription {
            url: HttpUrl::parse(url).unwrap(),
            ..accounts()
        };
        let refused = office
            .session
            .records::<WebhookSubscription>()
            .create(inside)
            .await
            .unwrap_err();
        let told = refused.field_errors();
        assert_eq!((told[0].path.as_str(), told[0].code), ("url", code));
        assert!(!format!("{refused} {refused:?}").contains("meta-data"));
    }
    // And where the name leads inside by now.
    subscribe(&office, accounts()).await;
    office.account("Globex").await;
    for inside in [
        "10.0.0.8",
        "100.64.1.1",
        "::1",
        "fd00:ec2::254",
        "::ffff:93.184.215.14",
        "2002:a00:1::",
    ] {
        let receiver = Receiver::at(inside);
        receiver
            .addresses
            .lock()
            .unwrap()
            .push("93.184.215.14".parse().unwrap());
        let queued = usize::from(deliveries(&office).await.is_empty());
        assert_eq!(
            deliver(&office, &receiver, queued).await.failed,
            1,
            "{inside}"
        );
        assert_eq!(receiver.requests(), [], "{inside}");
        let delivery = deliveries(&office).await.remove(0);
        assert_eq!(delivery.last_error.as_deref(), Some("not_public"));
        office.pass(TimeDelta::days(2));
    }
    let receiver = Receiver::public();
    assert_eq!(deliver(&office, &receiver, 0).await.delivered, 1);
}

#[tokio::test]
async fn a_receiver_that_wants_nothing_any_more_gets_nothing() {
    let office = Office::open().await;
    let id = subscribe(&office, accounts()).await;
    office.account("Globex").await;
    let receiver = Receiver::public();
    receiver.answer(Ok(WebhookResponse::new(410)));
    assert_eq!(deliver(&office, &receiver, 1).await.dead, 1);
    let stopped = office
        .session
        .records::<WebhookSubscription>()
        .get(id)
        .await
        .unwrap();
    assert!(!stopped.is_active && stopped.active_since.is_none());
    office.account("Initech").await;
    assert_nothing_is_due(&office, &receiver).await;
    // Active again, it gets what happens from then on.
    office.pass(TimeDelta::seconds(1));
    let wake = |subscription: &mut WebhookSubscription| subscription.is_active = true;
    office
        .session
        .records::<WebhookSubscription>()
        .update(id, wake)
        .await
        .unwrap();
    receiver.requests();
    let hooli = office.account("Hooli").await;
    assert_eq!(deliver(&office, &receiver, 1).await.delivered, 1);
    let body: Json = serde_json::from_slice(&receiver.requests()[0].body).unwrap();
    assert_eq!(body["data"]["record_id"], hooli.uuid().to_string());
    // A deleted one gets nothing of what was queued.
    office.account("Umbrella").await;
    receiver.answer(Err(TransportError::new("Not a code")));
    deliver(&office, &receiver, 1).await;
    assert!(
        deliveries(&office)
            .await
            .iter()
            .any(|one| one.last_error.as_deref() == Some("failed"))
    );
    office
        .session
        .records::<WebhookSubscription>()
        .delete(id)
        .await
        .unwrap();
    office.pass(TimeDelta::days(2));
    receiver.requests();
    assert_eq!(
        office
            .session
            .webhooks()
            .deliver_due(&receiver, 10)
            .await
            .unwrap()
            .dead,
        1
    );
    assert_eq!(receiver.requests(), []);
}

/// Workers that send at the same time send nothing twice; one that stopped leaves what it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_share_the_work() {
    let office = std::sync::Arc::new(Office::open().await);
    subscribe(&office, accounts()).await;
    let other = WebhookSubscription {
        name: "Search".into(),
        ..accounts()
    };
    subscribe(&office, other).await;
    for number in 0..40 {
        office.account(&format!("Account {number}")).await;
    }
    let receiver = std::sync::Arc::new(Receiver::public());
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let (office, receiver) = (office.clone(), receiver.clone());
            tokio::spawn(async move {
                for _ in 0..MOST_ASKED {
                    let webhooks = office.session.webhooks();
                    webhooks.deliver_due(&*receiver, 10).await.unwrap();
                    if receiver.requests.lock().unwrap().len() >= 80 {
                        return;
                    }
                    super::common::pause().await;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let mut sent: HashMap<String, usize> = HashMap::new();
    for request in receiver.requests() {
        *sent
            .entry(request.header("webhook-id").unwrap().to_owned())
            .or_default() += 1;
    }
    assert_eq!(sent.len(), 40);
    assert!(
        sent.values().all(|times| *times == 2),
        "once for each subscription"
    );
    assert!(
        deliveries(&office)
            .await
            .iter()
            .all(|one| one.status == DeliveryStatus::Delivered)
    );
}

#[tokio::test]
async fn secrets_stand_nowhere() {
    let office = Office::open().await;
    let text = secret(7).expose();
    let id = subscribe(&office, accounts()).await;
    let stored = office
        .session
        .records::<WebhookSubscription>()
        .get(id)
        .await
        .unwrap();
    assert!(!format!("{stored:?}").contains(&text));
    let trail = office.session.audit().trail(id).await.unwrap();
    assert!(!format!("{}", trail[0].changes.to_json()).contains(&text));
    let wrong = WebhookSubscription {
        name: "Other".into(),
        secret: Some("whsec_not-a-secret".into()),
        objects: vec!["acount".into()],
        events: vec!["explode".into()],
        ..accounts()
    };
    let refused = office
        .session
        .records::<WebhookSubscription>()
        .create(wrong)
        .await
        .unwrap_err();
    let mut paths: Vec<_> = refused
        .field_errors()
        .iter()
        .map(|one| one.path.as_str())
        .collect();
    paths.sort_unstable();
    assert_eq!(paths, ["events", "objects", "secret"]);
    assert!(!format!("{refused} {refused:?}").contains("not-a-secret"));
    // Without a secret nothing is sent, and nothing is kept to be sent.
    let forget = |subscription: &mut WebhookSubscription| subscription.secret = None;
    office
        .session
        .records::<WebhookSubscription>()
        .update(id, forget)
        .await
        .unwrap();
    office.account("Globex").await;
    let receiver = Receiver::public();
    assert_nothing_is_due(&office, &receiver).await;
}

/// what was queued of a person and not sent yet, and what was not queued yet, is sent without the
/// person after an erasure. A delivery holds ids alone, those of its event and its subscription: what is
/// sent is made of the event when it is sent.
#[tokio::test]
async fn nothing_of_an_erased_person_is_sent_or_kept_to_be_sent() {
    const SAID: [&str; 3] = ["Mothmarker", "Quillmarker", "quill@marker.example"];
    let tells = |text: &str| {
        let text = text.to_lowercase();
        SAID.iter().any(|said| text.contains(&said.to_lowercase()))
    };
    let office = Office::open().await;
    office.pass(TimeDelta::seconds(1));
    let subscription = WebhookSubscription {
        objects: vec!["contact".into()],
        personal_values: Treatment::Keep,
        ..accounts()
    };
    subscribe(&office, subscription).await;
    let person = Contact {
        email: Some(EmailAddress::parse("quill@marker.example").unwrap()),
        ..Contact::named("Mothmarker", "Quillmarker")
    };
    let mut contacts = office.session.contacts();
    let person = contacts.create(person).await.unwrap().id;
    // The receiver is not there: what is queued waits.
    let receiver = Receiver::default();
    let report = deliver(&office, &receiver, 1).await;
    assert_eq!((report.queued, report.delivered), (1, 0), "{report:?}");
    assert_eq!(receiver.requests(), []);
    let retitle = |contact: &mut Contact| contact.job_title = Some("Mothmarker's heir".into());
    contacts.update(person, retitle).await.unwrap();

    let privacy = office.session.privacy();
    let report = privacy.erase(person, Erasure::default()).await.unwrap();
    assert!(report.is_complete, "{report:?}");
    let kept = deliveries(&office).await;
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].status, DeliveryStatus::Pending);
    assert!(kept.iter().all(|delivery| {
        let json = serde_json::to_string(&**delivery).unwrap();
        !tells(&json)
    }));

    office.pass(TimeDelta::days(1));
    receiver
        .addresses
        .lock()
        .unwrap()
        .push("93.184.215.14".parse().unwrap());
    // The change before the erasure, and at least the erasure itself.
    deliver(&office, &receiver, 2).await;
    let sent = receiver.requests();
    assert!(sent.len() >= 3, "{}", sent.len());
    let bodies: Vec<String> = sent
        .iter()
        .map(|request| String::from_utf8(request.body.clone()).unwrap())
        .collect();
    for (request, body) in sent.iter().zip(&bodies) {
        assert!(!tells(&format!("{request:?} {body}")), "{body}");
    }
    // They tell of the record all the same.
    let of_person = person.uuid().to_string();
    assert!(
        bodies
            .iter()
            .filter(|body| body.contains(&of_person))
            .count()
            >= 3
    );
    let kept = deliveries(&office).await;
    assert!(
        kept.iter()
            .all(|delivery| delivery.status == DeliveryStatus::Delivered)
    );
}
