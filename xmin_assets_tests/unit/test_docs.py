"""What README.md and docs/ name exists: tests, modules, make targets, commands, keys, links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from xmin_assets import errors
from xmin_assets.cli.main import COMMANDS
from xmin_assets.config import Checks, ReplicationConfig, parse_config
from xmin_assets.orchestration import checks as check_names

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CORRECTNESS = (ROOT / "docs/correctness.md").read_text()
CONFIGURATION = (ROOT / "docs/configuration.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
DOCUMENTS = [*sorted(ROOT.glob("*.md")), ROOT / "deploy/README.md", *sorted((ROOT / "docs").glob("*.md"))]


def defined_tests() -> set[str]:
    files = (ROOT / "xmin_assets_tests").rglob("test_*.py")
    return {name for file in files for name in re.findall(r"^ *def (test_\w+)", file.read_text(), re.MULTILINE)}


def test_every_test_that_the_proofs_name_is_in_the_tree() -> None:
    named = set(re.findall(r"`(test_\w+)`", CORRECTNESS))
    assert len(named) > 50
    assert named - defined_tests() == set()


def test_every_promise_names_a_test_or_says_that_there_is_none() -> None:
    promises = re.split(r"^## (?=\d)", CORRECTNESS, flags=re.MULTILINE)[1:]
    assert len(promises) == 12
    for promise in promises:
        assert re.search(r"^Tests: (`test_\w+`|none yet)", promise.split("\n## ")[0], re.MULTILINE), promise[:40]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_module_that_is_named_exists(document: Path) -> None:
    rooms = "cli|config|demo|orchestration|postgres|replication"
    named = re.findall(rf"`(?:xmin_assets/)?((?:{rooms})/(?:\w+/)*\w+\.py)\b", document.read_text())
    assert [module for module in named if not (ROOT / "xmin_assets" / module).is_file()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_module_that_is_named_exists(document: Path) -> None:
    kinds = "unit|integration|orchestration|acceptance"
    named = re.findall(rf"`(?:xmin_assets_tests/)?((?:{kinds})/(?:\w+/)*\w+\.py)\b", document.read_text())
    # Of a room of the package the same name may begin.
    missing = [name for name in named if not (ROOT / "xmin_assets_tests" / name).is_file()]
    assert [name for name in missing if not (ROOT / "xmin_assets" / name).is_file()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_inside_the_project_lead_somewhere(document: Path) -> None:
    text = document.read_text()
    headings = {
        re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("#"):
            assert link[1:] in headings
        elif "://" not in link:
            assert (document.parent / link.partition("#")[0]).exists(), link


def test_make_targets_that_are_named_are_in_the_makefile() -> None:
    targets = set(re.findall(r"^(?:\.venv )?([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`| {4})make ([a-z]+)", README + CONTRIBUTING))
    assert {"demo", "test", "dev"} <= named <= targets


def test_commands_in_the_readme_exist() -> None:
    assert set(re.findall(r"xmin-assets ([a-z]+)\b", README)) <= set(COMMANDS)


def test_the_examples_of_what_dagster_does_by_itself_are_allowed() -> None:
    """That every key is listed is for test_configuration_doc.py."""
    table = CONFIGURATION.split("| key | meaning | default |")[1].split("\n\n")[0]
    cells = [row.split("|")[1:3] for row in table.splitlines()[2:]]
    given = {key.strip(" `"): re.findall(r"`(\"[^`]*\"|eager|stages|table)`", meaning) for key, meaning in cells}
    given |= {"sensor": ["{every: 30 s}"], "freshness": ["{fail_after: 2 hours}"]}
    assert {"steps", "schedule", "automation"} <= {key for key, examples in given.items() if examples}
    for key, examples in given.items():
        for example in examples:
            parse_config({"tables": ["public.a"], key: yaml.safe_load(example)})


def test_the_readmes_example_of_a_configuration_is_one() -> None:
    (text,) = re.findall(r"```yaml\n(defaults:.*?)```", README, re.DOTALL)
    config = parse_config(yaml.safe_load(text))
    assert [table.label for table in config.tables] == ["public.orders", "public.order_totals"]


def test_the_readmes_least_configuration_is_one() -> None:
    (text,) = re.findall(r"printf '(tables:.*)' > tables\.yaml", README)
    config = parse_config(yaml.safe_load(text.replace("\\n", "\n")))
    assert [table.label for table in config.tables] == ["public.orders", "public.customers"]


def test_the_checks_in_operations_are_the_defaults_with_a_schedule() -> None:
    (text,) = re.findall(r"```yaml\n(checks:\n  target_equals_source: \{severity.*?)```", OPERATIONS, re.DOTALL)
    said = Checks.model_validate(yaml.safe_load(text)["checks"])
    assert said.target_equals_source.schedule
    without = said.target_equals_source.model_copy(update={"schedule": None})
    assert said.model_copy(update={"target_equals_source": without}) == Checks()


def test_operations_say_what_to_do_about_every_error() -> None:
    table = OPERATIONS.split("| error or warning |")[1].split("\n\n")[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`([A-Z]\w+)`", row.split("|")[1])}
    classes = {name for name, value in vars(errors).items() if isinstance(value, type)}
    families = {"XminAssetsError", "TransientError", "TerminalError"}
    # A failed step names its class and sends people there.
    assert named == classes - families


def test_operations_name_checks_keys_and_commands_that_exist() -> None:
    assert set(re.findall(r"check `(\w+)`", OPERATIONS)) <= {
        value for name, value in vars(check_names).items() if name.isupper() and isinstance(value, str)
    }
    (text,) = re.findall(r"```yaml\n(sensor:.*?)```", OPERATIONS, re.DOTALL)
    said = yaml.safe_load(text)
    config = parse_config({**said, "tables": ["public.orders"]})
    assert set(said) <= config.model_fields_set
    for key in ("steps", "schedule", "sensor", "automation", "freshness", "cleanup", "checks"):
        assert key in ReplicationConfig.model_fields and f"`{key}" in OPERATIONS
    assert set(re.findall(r"`xmin-assets ([a-z]+)\b", OPERATIONS)) <= set(COMMANDS)
