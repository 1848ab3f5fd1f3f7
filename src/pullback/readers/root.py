"""ROOT files (TTree and RNTuple), read as matched jets through a branch map.

A file holds, for each collision, a list of reconstructed jets and (but for observed data) one of truth jets. Each
matched pair is an event: x the truth jet, y the reconstructed one. A selected reconstructed jet without a selected
truth jet is a fake, an event without x; a selected truth jet without a reconstructed one is a miss. Of observed data
every selected reconstructed jet is an event.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from pullback.readers import root_contents
from pullback.readers.base import Events, Inspection, OutsideFile
from pullback.readers.collisions import digest_of_job, generated
from pullback.readers.jet_selection import JetSelection
from pullback.readers.presets import PRESETS, Preset
from pullback.readers.root_jets import SelectedJets
from pullback.readers.root_table import RootTable
from pullback.study.kinds import Message, Package

if TYPE_CHECKING:
    from pullback.study.model import Problem

_WITH_TREE = re.compile(r"(.+\.root[^:/]*):(?!//)(.+)")
"""``file.root:Events``, as uproot has it."""


class RootFiles(JetSelection):
    """Outside ROOT files (TTree or RNTuple): per-event lists of jets, read through a branch map."""

    requires: ClassVar[tuple[Package, ...]] = tuple(
        Package(name, name, "hep", "ROOT files") for name in ("uproot", "awkward")
    )

    takes_entries: ClassVar[bool] = True
    suffixes: ClassVar[tuple[str, ...]] = (".root",)

    kind: Literal["root"]
    preset: Preset | None = Field(
        default=None,
        description="nanoaod: the branches Jet_*, GenJet_*, Jet_genJetIdx and genWeight of simulated NanoAOD; "
        "nanoaod-data: Jet_* of data. Keys beside it replace its own",
    )
    tree: str = Field(
        default="Events",
        description="the TTree or RNTuple: Events, /folder/Events, Events;1 of several with the name; also behind the "
        "name of a file, file.root:Events",
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """A preset stands for the branch map."""
        found = handler(schema)
        made = handler.resolve_ref_schema(found)
        made["required"] = [key for key in made["required"] if key != "y"]
        made["anyOf"] = [{"required": ["y"]}, {"required": ["preset"]}]
        return found

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, value: Any) -> Any:
        """The keys of the preset, where others are not given."""
        if not isinstance(value, dict) or value.get("preset") not in PRESETS:
            return value
        return {**PRESETS[value["preset"]], **value}

    @model_validator(mode="before")
    @classmethod
    def _trees_beside_files(cls, value: Any) -> Any:
        """``file.root:Events`` as the file and its tree; files that are not on a disk are refused."""
        files = value.get("files") if isinstance(value, dict) else None
        if not isinstance(files, dict) or not all(isinstance(names, list) for names in files.values()):
            return value
        trees = {str(value["tree"]).strip("/")} if "tree" in value else set()
        local: dict[str, list[str]] = {}
        for split, names in files.items():
            for name in names:
                if not isinstance(name, str):
                    return value
                if "://" in name:
                    raise ValueError(
                        f"`files`: {name} is not on a disk here, and a rerun depends on the file's content: copy it "
                        "(xrdcp, curl -O) or mount its folder, and give the path"
                    )
                found = _WITH_TREE.fullmatch(name)
                trees |= {found[2].strip("/")} if found else set()
                local.setdefault(split, []).append(found[1] if found else name)
        if len(trees) > 1:
            raise ValueError(f"`files` and `tree` name the trees {', '.join(sorted(trees))}: give a family one tree")
        return {**value, "files": {**files, **local}, **({"tree": trees.pop()} if trees else {})}

    def check(self, problem: "Problem") -> Iterator[Message]:
        """A factor on all of y is none on jets, and truth is in other branches than observations."""
        if self.scale != 1:
            yield "scale", "a factor on all of y would stretch angles, too: convert by `units` of the branch map"
        if self.x and (shared := set(self.x.columns.values()) & set(self.y.columns.values())):
            yield "x", f"names the branch '{min(shared)}' of `y`: name those of the truth"

    @contextmanager
    def open(self, problem: Any, file: OutsideFile) -> Iterator[Events]:
        """The jets of one file."""
        with RootTable(file.path, self.tree) as table:
            table.require(self.branches(file.has_truth))
            found = {
                "source_file": file.path.name,
                "source_tree": self.tree,
                "source_format": table.format,
                "source_entries": table.entries,
            }
            more, ensembles = generated(file.path)
            found |= more
            first, last = file.span(table.entries)
            part = f", of them {first} to {last}" if (first, last) != (0, table.entries) else ""
            selection = SelectedJets(self, problem, file, table)
            units = "".join(f", {each}" for each in selection.converted)
            summary = f"{table.format} '{self.tree}', {table.entries} entries{part}{units}"
            blocks = selection.blocks(first, last)
            yield Events(blocks, summary, found, selection.lost.events, selection.warnings, ensembles)

    @classmethod
    def inspect(cls, path: Path) -> Inspection:
        """The trees of a file with their columns, and a block that its names suggest."""
        return root_contents.inspect(path)

    def job_digest(self, path: Path) -> str | None:
        """The job digest of a file of `pullback.simulators.collider`."""
        return digest_of_job(path)
