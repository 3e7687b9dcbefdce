"""The company's helpdesk: agents, tickets with public answers and internal notes, and the help centre."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from random import Random

from sources.sandbox.customers import moment_between, morning
from sources.sandbox.facts import (
    INTERNAL_MARK,
    REGION_FIELD_ID,
    Account,
    Agent,
    Article,
    Attachment,
    Comment,
    Contact,
    Ticket,
)
from sources.sandbox.papers import attachment_content
from sources.sandbox.words import (
    AGENT_LINES,
    AGENT_NAMES,
    ARTICLE_SECTIONS,
    ARTICLE_TOPICS,
    CUSTOMER_LINES,
    INTERNAL_LINES,
    PLACES,
    TICKET_SUBJECTS,
    TICKET_TAGS,
)

FIRST_COMMENT_INTERNAL = (0, 2)
"""(account, sequence) of a ticket opening with an internal note; one in forty others does too."""

MOST_TICKETS = 99_999
"""Per account, so that ids of different accounts never meet."""

_REGIONS = {place[0]: place[5] for place in PLACES}
_BEYOND_DOUBLES = 2**53 + 1
_ATTACHABLE = (
    ("screenshot notes.txt", "text/plain"),
    ("Lieferschein für März.pdf", "application/pdf"),
    ("readings.csv", "text/csv"),
)


def agents() -> tuple[Agent, ...]:
    return tuple(
        Agent(
            7_000_000_000 + number,
            name,
            f"agent{number}@support.example",
            "admin" if number == 0 else "agent",
        )
        for number, name in enumerate(AGENT_NAMES)
    )


def tickets(
    account: Account,
    people: tuple[Contact, ...],
    staff: tuple[Agent, ...],
    duplicate_org: int | None,
    count: int,
    seed: int,
    today: date,
) -> tuple[Ticket, ...]:
    """Oldest first; none for an account that the helpdesk does not know."""
    if account.zendesk_org_id is None or not count:
        return ()
    if count > MOST_TICKETS:
        raise ValueError(
            f"account {account.index}: {count} tickets, at most {MOST_TICKETS} fit the id scheme"
        )
    rng = Random(f"{seed}/tickets/{account.index}")
    requesters = tuple(person for person in people if person.zendesk_user_id is not None)
    ages = sorted((500 * rng.random() ** 1.8 for _ in range(count)), reverse=True)
    return tuple(
        _ticket(account, account.zendesk_org_id, requesters, staff, duplicate_org, sequence, age, rng, today)
        for sequence, age in enumerate(ages, start=1)
    )


def articles(count: int, seed: int, today: date) -> tuple[Article, ...]:
    """Every twelfth is a draft, every ninth is German."""
    rng = Random(f"{seed}/articles")
    return tuple(_article(number, rng, today) for number in range(count))


def _ticket(
    account: Account,
    org: int,
    requesters: tuple[Contact, ...],
    staff: tuple[Agent, ...],
    duplicate_org: int | None,
    sequence: int,
    age: float,
    rng: Random,
    today: date,
) -> Ticket:
    now = morning(today)
    ticket_id = (account.index + 1) * 100_000 + sequence
    if (account.index == 0 and sequence == 3) or rng.random() < 0.003:
        ticket_id += _BEYOND_DOUBLES
    requester = rng.choice(requesters)
    created = now - timedelta(seconds=int(age * 86_400) + rng.randint(600, 40_000))
    status = _status(rng, age)
    assignee = None if status == "new" else rng.choice(staff)
    opens_internally = (account.index, sequence) == FIRST_COMMENT_INTERNAL or rng.random() < 0.025
    exchanges = 1 if status == "new" else rng.choice((2, 3, 3, 4, 6))
    comments: list[Comment] = []
    moment = created
    for position in range(exchanges):
        internal = opens_internally if position == 0 else rng.random() < 0.22
        by_agent = internal or position % 2 == 1
        comments.append(
            _comment(
                ticket_id * 100 + position, requester, assignee or staff[0], by_agent, internal, moment, rng
            )
        )
        replied = moment_between(rng, moment + timedelta(minutes=5), moment + timedelta(days=2))
        moment = min(now, replied)
    last = comments[-1].created_at
    due = rng.random() < 0.2
    return Ticket(
        id=ticket_id,
        account=account.index,
        zendesk_org_id=duplicate_org if duplicate_org is not None and sequence % 3 == 0 else org,
        requester=requester,
        assignee=assignee,
        subject=rng.choice(TICKET_SUBJECTS),
        description=comments[0].body,
        status=status,
        priority=rng.choice(("low", "normal", "normal", "high", "urgent", None)),
        type=("task" if due else rng.choice(("question", "incident", "problem", None))),
        tags=tuple(sorted(rng.sample(TICKET_TAGS, rng.randint(0, 3)))),
        created_at=created,
        # A trigger that ran over the whole desk in the night: equal times, which paging must survive.
        updated_at=max(last, now - timedelta(hours=6)) if rng.random() < 0.05 else last,
        due_at=created + timedelta(days=rng.randint(1, 20)) if due else None,
        custom_fields={REGION_FIELD_ID: _REGIONS[account.country] if rng.random() < 0.9 else None},
        comments=tuple(comments),
    )


def _status(rng: Random, age: float) -> str:
    if age > 90:
        return rng.choices(("closed", "solved", "hold"), (90, 9, 1))[0]
    if age > 20:
        return rng.choices(("closed", "solved", "hold", "pending", "open"), (35, 35, 8, 10, 12))[0]
    return rng.choices(("new", "open", "pending", "hold", "solved"), (15, 40, 20, 7, 18))[0]


def _comment(
    comment_id: int,
    requester: Contact,
    agent: Agent,
    by_agent: bool,
    internal: bool,
    moment: datetime,
    rng: Random,
) -> Comment:
    line = rng.choice(INTERNAL_LINES if internal else AGENT_LINES if by_agent else CUSTOMER_LINES)
    author_id = agent.zendesk_user_id if by_agent else requester.zendesk_user_id
    assert author_id is not None  # requesters are chosen from the contacts that have a helpdesk user
    return Comment(
        id=comment_id,
        author_id=author_id,
        author_name=agent.name if by_agent else requester.name,
        by_agent=by_agent,
        body=f"{INTERNAL_MARK}: {line}" if internal else line,
        public=not internal,
        created_at=moment,
        attachments=_attachments(comment_id, rng),
    )


def _attachments(comment_id: int, rng: Random) -> tuple[Attachment, ...]:
    if rng.random() > 0.08:
        return ()
    chosen = rng.sample(_ATTACHABLE, rng.choice((1, 1, 2)))
    return tuple(
        Attachment(
            id=comment_id * 4 + position,
            file_name=name,
            content_type=content_type,
            size=len(attachment_content(comment_id * 4 + position, name, content_type)),
        )
        for position, (name, content_type) in enumerate(chosen)
    )


def _article(number: int, rng: Random, today: date) -> Article:
    topic, advice = ARTICLE_TOPICS[number % len(ARTICLE_TOPICS)]
    edition = number // len(ARTICLE_TOPICS)
    title = f"{topic} – part {edition + 1}" if edition else topic
    article_id = 360_002_000_000 + number * 13
    slug = topic.lower().replace(" ", "-")
    locale = "de" if number % 9 == 8 else "en-gb"
    created = moment_between(rng, morning(today) - timedelta(days=900), morning(today) - timedelta(days=60))
    return Article(
        id=article_id,
        title=title,
        body=f'<h1>{title}</h1><p>{advice}</p><p>Questions? <a href="/hc/{locale}/requests/new">Write to us</a>.</p>',
        locale=locale,
        section=ARTICLE_SECTIONS[number % len(ARTICLE_SECTIONS)],
        section_id=360_001_000_000 + number % len(ARTICLE_SECTIONS),
        author_id=7_000_000_000 + number % len(AGENT_NAMES),
        labels=tuple(sorted({slug.split("-")[0], ARTICLE_SECTIONS[number % len(ARTICLE_SECTIONS)].lower()})),
        draft=number % 12 == 11,
        created_at=created,
        updated_at=moment_between(rng, created, morning(today)),
        url_path=f"/hc/{locale}/articles/{article_id}-{slug}",
    )
