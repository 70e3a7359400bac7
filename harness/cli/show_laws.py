"""`isogap laws`: the laws there are, or one of them in full."""

from harness.fit.laws.registry import get_law, law_ids
from harness.terminal import print_rows


def show_laws(law: str | None) -> None:
    """Print one law in full; or every law with its roles (a star marks one of several columns), formula and source."""
    if law is not None:
        _print_law(law)
        return
    for each in map(get_law, law_ids()):
        reads = ", ".join((*each.columns, *(f"{role}*" for role in each.vectors), *each.labels))
        print(f"{each.id}: {each.response} of {reads}\n    {each.formula}\n    {each.source}")


def _print_law(law_id: str) -> None:
    """Print a law: formula, columns, and parameters with their published values, also for several cases."""
    law = get_law(law_id)
    print(
        f"{law.id}: {law.formula}\nresponse {law.response}; columns {', '.join(law.roles[:-1])}\nsource: {law.source}"
    )
    columns = ("parameter", "published", "searched from", "to")
    print_rows([dict(zip(columns, (p.name, p.published, p.low, p.high), strict=True)) for p in law.parameters])
    if law.centred:
        print("searched for columns divided by their geometric means, and a response divided by its median")
    if law.published_cases:
        print("published constants")
        print_rows(law.published_cases)
