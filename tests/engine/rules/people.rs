//! Users and team members.

use crm_engine::identity::UserStatus;
use crm_engine::prelude::*;

use super::world;

///
#[tokio::test]
async fn users_are_unique_by_email_and_user_name_in_any_case() {
    let w = world().await;
    let user = |email: &str, name: &str| User {
        username: Some(name.into()),
        ..User::new(email.parse::<EmailAddress>().unwrap())
    };
    let bob = w
        .session
        .users()
        .create(user("bob@acme.example", "Bob"))
        .await
        .unwrap();
    assert_eq!(bob.status, UserStatus::Active);
    let error = w
        .session
        .users()
        .create(user("ADA@acme.example", "Ada"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Duplicate { ref fields, .. } if fields == &["email"]));
    let error = w
        .session
        .users()
        .create(user("b@acme.example", "BOB"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Duplicate { ref fields, .. } if fields == &["username"]));
}

/// C-053.
#[tokio::test]
async fn team_members_join_leave_and_come_back() {
    let w = world().await;
    let team = w
        .session
        .teams()
        .create(Team::new("North"))
        .await
        .unwrap()
        .id;
    let user = w.onboarded.admin;
    let first = w
        .session
        .teams()
        .add_member(team, user, TeamRole::Member)
        .await
        .unwrap();
    let lead = w
        .session
        .teams()
        .add_member(team, user, TeamRole::Lead)
        .await
        .unwrap();
    assert_eq!((first.id, lead.role), (lead.id, TeamRole::Lead));
    // A unit of work sees who left in it, others do not.
    let mut work = w.session.begin();
    work.teams().remove_member(team, user).await.unwrap();
    assert!(work.teams().members(team).await.unwrap().is_empty());
    assert_eq!(w.session.teams().members(team).await.unwrap().len(), 1);
    drop(work);
    w.session.teams().remove_member(team, user).await.unwrap();
    assert!(w.session.teams().members(team).await.unwrap().is_empty());
    assert_eq!(
        w.session
            .teams()
            .remove_member(team, user)
            .await
            .unwrap_err()
            .code(),
        "not_found"
    );
    let back = w
        .session
        .teams()
        .add_member(team, user, TeamRole::Member)
        .await
        .unwrap();
    assert_eq!(back.id, first.id);
    assert_eq!(w.session.teams().members(team).await.unwrap().len(), 1);
}
