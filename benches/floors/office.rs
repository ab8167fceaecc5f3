//! A tenant, and the contacts that it makes.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use crm_engine::engine::Engine;
use crm_engine::prelude::*;
use crm_engine::tenancy::Onboarded;
use serde_json::json;

/// A tenant with an account, to make contacts in.
pub(crate) struct Office {
    pub(crate) session: Session,
    #[cfg(feature = "postgres")]
    pub(crate) account: Id<Account>,
    pub(crate) owner: Id<User>,
}

impl Office {
    /// In memory.
    pub(crate) fn open() -> Self {
        ready(Self::enter(&Crm::in_memory(), "acme")).0
    }

    /// In any storage: also what onboarding made.
    pub(crate) async fn enter(crm: &Engine, subdomain: &str) -> (Self, Onboarded) {
        let acme = Onboarding::new("Acme", subdomain, "ada@acme.example");
        let acme = crm.onboard(acme).await.unwrap();
        let session = crm.session(acme.tenant, Actor::User(acme.admin));
        #[cfg(feature = "postgres")]
        let account = session.accounts().create(Account::new("Globex")).await;
        let office = Self {
            session,
            #[cfg(feature = "postgres")]
            account: account.unwrap().id,
            owner: acme.admin,
        };
        (office, acme)
    }

    /// Such a contact who works for the account.
    #[cfg(feature = "postgres")]
    pub(crate) fn employee(&self, number: usize) -> Contact {
        Contact {
            account_id: Some(self.account),
            ..self.contact(number)
        }
    }

    /// A contact as they come from a form: some twenty of its fields are filled.
    pub(crate) fn contact(&self, number: usize) -> Contact {
        Contact {
            email: Some(
                format!("maria.lopez.{number}@globex.example")
                    .parse()
                    .unwrap(),
            ),
            phone: Some(PhoneNumber::from_stored(
                "+34 912 34 56 78".into(),
                Some("+34912345678".into()),
            )),
            company: Some("Globex Corporation".into()),
            job_title: Some("Head of Procurement".into()),
            department: Some("Operations".into()),
            mailing_address: Some(Address {
                street: Some("Calle Mayor 17".into()),
                city: Some("Madrid".into()),
                postal_code: Some("28013".into()),
                country: Some("ES".parse().unwrap()),
                ..Address::default()
            }),
            lead_source: Some("trade fair".into()),
            description: Some("Met at the fair; wants an offer for three sites by spring.".into()),
            owner_id: Some(self.owner),
            custom_fields: json!({"region": "south", "segment": "mid-market"}),
            tags: vec!["key-account".into(), "fair-2026".into()],
            ..Contact::named("Maria", "Lopez")
        }
    }
}

/// Polls a future until it is ready. In memory nothing waits, so no runtime is measured.
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}
