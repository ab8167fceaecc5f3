//! Who sells where: users, the teams of the managers, and those of the regions above them.

use std::collections::{HashMap, HashSet};

use crm_engine::prelude::*;

use super::Failure;
use super::clean::Agent;
use super::import::{Log, all, find_by};
use super::read::AgentRow;

/// Who sells where, by the sales agent's name.
pub(crate) type Staff = HashMap<String, (Id<User>, Id<Team>)>;

/// The agents, the managers whom they report to, and the teams: one for each region, below it one for
/// each manager there.
pub(crate) async fn create_staff(
    session: &Session,
    agents: Vec<Agent>,
    log: &mut Log,
) -> Result<Staff, Failure> {
    let mut office = Office::open(session, &agents, log).await?;
    let mut staff = Staff::new();
    for Agent {
        line,
        email,
        manager_email,
    } in agents
    {
        let AgentRow {
            sales_agent,
            manager,
            regional_office,
        } = &line.row;
        let leader = office.user(manager, manager_email, "Sales manager").await?;
        let agent = office.user(sales_agent, email, "Sales agent").await?;
        let region = office.team(regional_office, None).await?;
        let team = office
            .team(&team_name(&line.row), Some((region, leader)))
            .await?;
        let mut users = office.work.users();
        // Whoever has a manager keeps that one.
        let reports = users
            .update(agent, |user| {
                user.manager_id.get_or_insert(leader);
            })
            .await;
        office
            .log
            .keep(reports, &line, "the agent has no manager")?;
        office.join(team, leader, TeamRole::Lead).await?;
        office.join(team, agent, TeamRole::Member).await?;
        staff.insert(sales_agent.clone(), (agent, team));
    }
    office.work.commit().await?;
    Ok(staff)
}

/// What the team of a manager in a region is called.
fn team_name(row: &AgentRow) -> String {
    format!("{}, {}", row.manager, row.regional_office)
}

/// Creates each user, team and membership once.
#[derive(Debug)]
struct Office<'a> {
    work: UnitOfWork,
    log: &'a mut Log,
    users: HashMap<String, Id<User>>,
    teams: HashMap<String, Id<Team>>,
    members: HashSet<(Id<Team>, Id<User>)>,
    joined: HashSet<(Id<Team>, Id<User>)>,
}

impl<'a> Office<'a> {
    async fn open(session: &Session, agents: &[Agent], log: &'a mut Log) -> Result<Self> {
        let emails = agents
            .iter()
            .flat_map(|agent| [agent.email.as_str(), agent.manager_email.as_str()]);
        let names = agents.iter().flat_map(|agent| {
            let row = &agent.line.row;
            [row.regional_office.clone(), team_name(row)]
        });
        let names: HashSet<String> = names.collect();
        let users = find_by::<User>(session, "email", emails).await?;
        let teams = find_by::<Team>(session, "name", names.iter().map(String::as_str)).await?;
        let members = all::<TeamMember>(session, Find::new().with_archived()).await?;
        users.iter().for_each(|_| log.found::<User>());
        teams.iter().for_each(|_| log.found::<Team>());
        Ok(Self {
            work: session.begin(),
            log,
            users: users
                .iter()
                .map(|user| (user.email.as_str().to_owned(), user.id))
                .collect(),
            teams: teams
                .iter()
                .map(|team| (team.name.clone(), team.id))
                .collect(),
            members: members
                .iter()
                .map(|member| (member.team_id, member.user_id))
                .collect(),
            joined: HashSet::new(),
        })
    }

    async fn user(&mut self, name: &str, email: EmailAddress, job: &str) -> Result<Id<User>> {
        if let Some(user) = self.users.get(email.as_str()) {
            return Ok(*user);
        }
        let address = email.as_str().to_owned();
        let user = User {
            name: PersonName::split(name),
            display_name: Some(name.to_owned()),
            job_title: Some(job.to_owned()),
            ..User::new(email)
        };
        let user = self.work.users().create(user).await?.id;
        self.log.created::<User>();
        self.users.insert(address, user);
        Ok(user)
    }

    /// A team; one of a region is below that of the region, and somebody leads it.
    async fn team(&mut self, name: &str, below: Option<(Id<Team>, Id<User>)>) -> Result<Id<Team>> {
        if let Some(team) = self.teams.get(name) {
            return Ok(*team);
        }
        let team = Team {
            parent_team_id: below.map(|(region, _)| region),
            manager_id: below.map(|(_, leader)| leader),
            ..Team::new(name)
        };
        let team = self.work.teams().create(team).await?.id;
        self.log.created::<Team>();
        self.teams.insert(name.to_owned(), team);
        Ok(team)
    }

    async fn join(&mut self, team: Id<Team>, user: Id<User>, role: TeamRole) -> Result<()> {
        if !self.joined.insert((team, user)) {
            return Ok(());
        }
        if self.members.contains(&(team, user)) {
            self.log.found::<TeamMember>();
            return Ok(());
        }
        self.work.teams().add_member(team, user, role).await?;
        self.log.created::<TeamMember>();
        Ok(())
    }
}
