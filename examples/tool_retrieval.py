"""Find the tools that an assistant needs for a request: tools as documents, embedded by how people ask for them.

Run it with ``python examples/tool_retrieval.py`` (``pip install 'octavo[demo,langchain]'``; nothing is downloaded). An
assistant with fifty tools is given the five that a request is likely to need, of those that its user may call. The
description stays the document's text; what is embedded is the description with a few things that people say when they want
the tool (`embed_texts`). The program measures what that is worth on 82 requests that repeat none of those sentences.
docs/tool-retrieval.md explains it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from langchain_core.tools import BaseTool, StructuredTool

import octavo


@dataclass(frozen=True)
class Described:
    """What a tool's maker writes down: its name, who may call it, what it does, and what people say when they want it."""

    name: str
    role: str
    description: str
    usage: tuple[str, ...]


TOOLS = [
    Described(*fields[:3], tuple(fields[3].split(" / ")))
    for fields in (
        # everybody
        ("calendar_create_event", "staff", "Create an event in the user's calendar.",
         "put lunch with Ana on Friday / block two hours for writing tomorrow / schedule a call with the vendor"),
        ("calendar_find_free_time", "staff", "Compute intersecting availability of several attendees.",
         "when can the four of us meet / find a gap next week for the whole team / who is free at three"),
        ("calendar_cancel_event", "staff", "Remove an event and notify attendees.",
         "call off the stand-up / I can't make it on Monday, drop it / the review won't happen"),
        ("room_book", "staff", "Reserve a physical space for a time slot.",
         "I need a quiet place for six people / get us the big room at noon / somewhere with a projector"),
        ("mail_search", "staff", "Query the mailbox index by sender, date and terms.",
         "did the landlord ever reply / find what Tom wrote about the boiler / messages with attachments from May"),
        ("mail_send", "staff", "Deliver a message by SMTP.",
         "tell the customer we are late / write to Ana that I agree / let everybody know that the office is closed"),
        ("mail_set_auto_reply", "staff", "Configure the out-of-office responder.",
         "I'm on holiday from Monday / let people know that I'm away / nobody should expect an answer before June"),
        ("chat_post_message", "staff", "Publish to a channel of the messaging workspace.",
         "say hello in the team channel / ping the backend group / announce the release to everybody online"),
        ("contacts_lookup", "staff", "Resolve a person in the directory.",
         "what is Maria's phone number / who runs the warehouse / which desk does Tom sit at"),
        ("task_create", "staff", "Insert an item into the task list.",
         "remind me to ring the plumber / don't let me forget the invoice / add milk to the list"),
        ("task_list", "staff", "Return open items with due dates.",
         "what do I still have to do / anything overdue / what is on my plate this week"),
        ("notes_search", "staff", "Full-text query over meeting minutes.",
         "what did we decide about the logo / who promised to write the report / what was said about parking"),
        ("file_search", "staff", "Locate objects in shared storage by name or content.",
         "where is the slide deck from March / find the floor plan / I lost the contract with the caterer"),
        ("file_share", "staff", "Grant another principal access to an object in storage.",
         "let Ana see the spreadsheet / give the auditors the folder / send a link so that they can read it"),
        ("document_summarize", "staff", "Produce an abstract of a document.",
         "what does this paper say in short / give me the gist / I have no time to read forty pages"),
        ("document_translate", "staff", "Convert text between natural languages.",
         "what does this letter mean in English / put it into Spanish / I don't read Polish"),
        ("weather_forecast", "staff", "Retrieve meteorological predictions for a location.",
         "do I need an umbrella / will it be cold in Oslo / can we have the party outside"),
        ("currency_convert", "staff", "Apply exchange rates to an amount.",
         "how much is 300 dollars in euros / what are 50 pounds worth / price in Swiss francs"),
        ("web_search", "staff", "Query a public search engine.",
         "look it up online / who won the match yesterday / what do people say about that phone"),
        ("route_plan", "staff", "Compute an itinerary between coordinates.",
         "how do I get to the airport / how long is the drive to Lyon / which bus goes to the office"),
        ("travel_book_train", "staff", "Purchase rail tickets.",
         "I have to be in Berlin on Tuesday morning / get me a seat on the night train / two to Vienna and back"),
        ("travel_book_hotel", "staff", "Reserve accommodation.",
         "I need a bed near the fair / somewhere to sleep in Rome / two nights with breakfast"),
        ("expense_submit", "staff", "File a reimbursement claim with receipts.",
         "I paid for the taxi myself / get back what lunch with the client cost / here is the receipt"),
        ("leave_request", "staff", "Apply for paid absence.",
         "I'd like to be off in August / take Friday free / my days off around Easter"),
        ("leave_balance", "staff", "Return remaining entitlement for absence.",
         "how many days off have I left / can I still take a week this year / did they carry over"),
        ("sick_report", "staff", "Record incapacity for work.",
         "I have a fever and stay in bed / the doctor wrote me off until Friday / my back hurts, I can't come"),
        ("helpdesk_open_ticket", "staff", "Create an incident in the IT service queue.",
         "my laptop does not start / the printer is jammed / my screen stays black"),
        ("password_reset", "staff", "Issue a new credential for an account.",
         "I can't log in any more / I forgot my login / it says that I'm locked out"),
        ("vpn_status", "staff", "Report the state of the encrypted tunnel to the internal network.",
         "nothing inside the company opens from home / why am I cut off from the intranet / is remote access down"),
        # managers and finance
        ("leave_approve", "manager", "Decide on a pending absence of a report.",
         "Tom may go on holiday / say yes to Ana's week off / whose days off wait for me"),
        ("performance_review_start", "manager", "Instantiate an appraisal cycle for a report.",
         "it is time for Tom's yearly talk / begin feedback for my team / how has she done this year, collect opinions"),
        ("budget_status", "manager", "Report committed and remaining funds of a cost centre.",
         "can we afford another monitor / how much money has my group left / are we over our limit"),
        ("vacancy_open", "manager", "Publish a requisition for a position.",
         "we need another engineer / find somebody for reception / my team is too small"),
        ("candidate_search", "manager", "Query the applicant tracking database.",
         "who applied for reception / anybody who knows Rust / people we talked to last spring"),
        ("invoice_create", "finance", "Generate a receivable document for a customer.",
         "bill the bakery for May / charge them for ten hours / they owe us for the repair"),
        ("invoice_status", "finance", "Return the settlement state of receivables.",
         "has the bakery paid / who still owes us money / what is overdue from customers"),
        ("payment_send", "finance", "Initiate a credit transfer to a creditor.",
         "pay the electrician / settle what we owe the landlord / transfer the deposit"),
        ("payroll_run", "finance", "Execute the compensation batch for a period.",
         "everybody gets their wages today / do this month's salaries / pay the staff"),
        ("vat_report", "finance", "Compile the consumption tax declaration.",
         "what do we send to the tax office this quarter / how much tax did we take / declare sales"),
        ("supplier_add", "finance", "Register a creditor in the ledger.",
         "we buy from a new paper mill / enter the bank details of the caterer / a new firm delivers to us"),
        # engineers
        ("deploy_release", "engineer", "Promote a build artifact to production.",
         "ship it / put version 2.3 live / customers should get the fix today"),
        ("deploy_rollback", "engineer", "Revert production to the previous artifact.",
         "undo last night's release / go back, it is broken / the version before was fine"),
        ("logs_query", "engineer", "Search structured log streams.",
         "what happened at two in the night / why did checkout fail / show the errors of the payment service"),
        ("metrics_chart", "engineer", "Plot time series from the monitoring system.",
         "how slow was the site today / is memory growing / draw requests per minute"),
        ("service_restart", "engineer", "Cycle the processes of a service.",
         "the queue hangs, kick it / turn it off and on again / bring the worker up afresh"),
        ("database_query", "engineer", "Execute read-only SQL on the replica.",
         "how many users signed up in May / count orders by country / which customers have two accounts"),
        ("database_restore", "engineer", "Recover a database from a snapshot.",
         "somebody deleted the orders table / bring yesterday's data back / undo what the script destroyed"),
        ("repo_search", "engineer", "Query source repositories for symbols and text.",
         "where do we compute shipping costs / who calls that function / find the code of the login page"),
        ("pull_request_create", "engineer", "Propose a change for review.",
         "have somebody look at my branch / I'm done, ask Tom to check it / hand in the fix"),
        ("feature_flag_set", "engineer", "Toggle a runtime switch.",
         "turn on the new checkout for ten percent / hide the beta / switch dark mode off for everybody"),
    )
]  # fmt: skip

#: Requests written apart from the sentences above: which tool is meant.
REQUESTS = {
    "calendar_create_event": ("Pencil in dinner with my sister on the 12th", "Set up an interview with the plumber at 10"),
    "calendar_find_free_time": ("Is there an hour when all of us have nothing on?",),
    "calendar_cancel_event": ("Thursday's workshop is not going to take place", "Scrap my appointment with the dentist"),
    "room_book": ("We'd like to sit together, eight of us, with a whiteboard", "Is the meeting room upstairs taken at two?"),
    "mail_search": ("What was the last thing the insurance wrote to me?", "Dig out the email with the boarding pass"),
    "mail_send": ("Drop Peter a line that the parts have arrived", "Reply to the supplier that we accept"),
    "mail_set_auto_reply": ("From Wednesday on I won't read my inbox, inform whoever writes",),
    "chat_post_message": ("Ask in #random who wants pizza", "Inform the designers on chat that the icons are ready"),
    "contacts_lookup": ("Who is the head of logistics?", "How do I reach Mr Okafor by telephone?"),
    "task_create": ("I must not forget to renew my passport", "Put sharpening the knives on my to-do list"),
    "task_list": ("What's left for me to finish today?",),
    "notes_search": ("In which session did we agree on the new price?", "What came out of the kickoff?"),
    "file_search": ("I can't find the drawing of the new kitchen", "Which folder holds last year's catalogue?"),
    "file_share": ("Our lawyer should be able to open the draft", "Make the photo album readable for Lena"),
    "document_summarize": ("Boil this report down to three sentences", "Just the key points of the attached study"),
    "document_translate": ("Our partner in Lisbon needs this in Portuguese", "I got a French manual and don't understand it"),
    "weather_forecast": ("Will there be snow in the Alps this weekend?", "Should I wear a coat tomorrow?"),
    "currency_convert": ("The quote is 12,000 yen, what's that for us?",),
    "web_search": ("Which company makes the best office chairs?", "Google opening hours of the museum"),
    "route_plan": ("What's the fastest way from here to the harbour?", "How far is it to the customer in Graz?"),
    "travel_book_train": ("I want to go to Hamburg by rail on the 5th", "First class ticket to Zurich, please"),
    "travel_book_hotel": ("A room for my stay in Madrid, not over 120 a night", "Where do I sleep during the conference?"),
    "expense_submit": ("I bought stamps with my own money", "Refund my parking fee"),
    "leave_request": ("I want to go on vacation for two weeks in July", "May I stay at home on the bridge day?"),
    "leave_balance": ("Do I have vacation left?",),
    "sick_report": ("I've caught the flu", "I broke my arm and will be missing for three weeks"),
    "helpdesk_open_ticket": ("My keyboard is broken", "The headset makes no sound, can somebody have a look?"),
    "password_reset": ("The system doesn't accept my passphrase", "My account is blocked after three attempts"),
    "vpn_status": ("From my home office I can't reach the file server",),
    "leave_approve": ("Erik asked for time off in May, that's fine with me",),
    "performance_review_start": ("Kick off the annual appraisal of Nadia", "I want to give my people an evaluation"),
    "budget_status": ("How much may our department still spend?",),
    "vacancy_open": ("I want to hire a second accountant", "Advertise a job for a driver"),
    "candidate_search": ("Are there applications from people with a forklift licence?",),
    "invoice_create": ("Send the school the bill for the new windows", "Write up what Mrs Lind has to pay us"),
    "invoice_status": ("Did the hotel settle its bill?", "Which clients are behind with their payments?"),
    "payment_send": ("Wire 800 to the cleaning company",),
    "payroll_run": ("Start the salaries for November",),
    "vat_report": ("Prepare the sales tax return",),
    "supplier_add": ("From now on Nordholz delivers our timber, record them as a vendor",),
    "deploy_release": ("Roll the new build out to everyone", "Publish the hotfix"),
    "deploy_rollback": ("The update made it worse, return to what we had", "Take today's deployment back"),
    "logs_query": ("Find the stack trace of the crash this morning", "Which requests returned 500 at noon?"),
    "metrics_chart": ("Graph the CPU load of the last day", "Has latency gone up since Monday?"),
    "service_restart": ("The mail worker is stuck, reboot it",),
    "database_query": ("How many customers are there in Norway?", "List the ten largest orders"),
    "database_restore": ("All rows of the price list are gone, get them back",),
    "repo_search": ("In which file is the discount calculated?",),
    "pull_request_create": ("Submit my changes so that a colleague can approve them",),
    "feature_flag_set": ("Enable the redesigned cart for testers only",),
}  # fmt: skip


def make_tool(described: Described) -> BaseTool:
    """Return a LangChain tool; this one only says what it was asked, where yours does the work."""

    def call(request: str) -> str:
        return f"{described.name}: {request}"

    return StructuredTool.from_function(call, name=described.name, description=described.description)


class ToolFinder:
    """Tools in a collection, found by what somebody asks for and by what they may do.

    Parameters
    ----------
    tools : iterable of (Described, BaseTool)
        What was written down about each tool, and the object to give back.
    encoder : object
        Anything that `octavo.open` takes.
    embed : {"description", "usage", "both"}
        What the vectors are made of. The text of a document is the description in any case.
    """

    def __init__(
        self, tools: Iterable[tuple[Described, BaseTool]], encoder: object = "all-MiniLM-L6-v2", embed: str = "both"
    ) -> None:
        described, objects = zip(*tools, strict=True)
        self._objects: Mapping[str, BaseTool] = {tool.name: tool for tool in objects}
        self._collection = octavo.open(encoder=encoder)  # with a path, it outlives the program
        self._collection.add(
            [each.description for each in described],
            ids=[each.name for each in described],
            metadata=[{"role": each.role} for each in described],
            embed_texts=None if embed == "description" else [_embedded(each, embed) for each in described],
        )

    def find(self, request: str, roles: Iterable[str], k: int = 5) -> list[BaseTool]:
        """Return the `k` likeliest tools among those of `roles`, the likeliest first; give them to `model.bind_tools`."""
        hits = self._collection.search(request, k=k, filter={"role": {"$in": list(roles)}})
        return [self._objects[hit.id] for hit in hits]


def _embedded(described: Described, embed: str) -> str:
    usage = ". ".join(described.usage)
    return usage if embed == "usage" else f"{described.description} {usage}."


def recall(finder: ToolFinder, roles: Iterable[str], ks: Sequence[int]) -> list[float]:
    """Return for each `k` the share of requests whose tool is among the first `k`."""
    asked = [(name, request) for name, requests in REQUESTS.items() for request in requests]
    roles = list(roles)
    found = [[tool.name for tool in finder.find(request, roles, k=max(ks))] for _, request in asked]
    return [sum(name in names[:k] for (name, _), names in zip(asked, found, strict=True)) / len(asked) for k in ks]


def main() -> None:
    """Ask for tools as two people, and measure what embedding by usage is worth."""
    pairs = [(described, make_tool(described)) for described in TOOLS]
    everybody = {described.role for described in TOOLS}
    finder = ToolFinder(pairs)
    request = "The shop shows yesterday's prices again, take it back to the version before"
    for roles in (["staff"], ["staff", "engineer"]):
        print(f"{' + '.join(roles)}: {', '.join(tool.name for tool in finder.find(request, roles, k=3))}")
    print(finder.find(request, everybody, k=1)[0].invoke({"request": request}))

    n = sum(map(len, REQUESTS.values()))
    print(f"\n{len(TOOLS)} tools, {n} requests   recall@1   recall@3   recall@5")
    for embed in ("description", "usage", "both"):
        finder = ToolFinder(pairs, embed=embed)
        print(f"embedded: {embed:<16}" + "".join(f"{share:11.2f}" for share in recall(finder, everybody, (1, 3, 5))))


if __name__ == "__main__":
    main()
