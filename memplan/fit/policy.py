"""What a plan must respect: the limit, the margin kept free, the harm allowed, the fields frozen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.errors import UnknownNameError
from memplan.domain.estimate import Estimate
from memplan.domain.harm import Harm
from memplan.domain.margin import margin_bytes, share
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Workload

if TYPE_CHECKING:
    from memplan.dialects.reading import Reading
    from memplan.profiles import NamedProfile

Estimator = Callable[[Workload, Target | None], Estimate]
"""What counts the bytes of a workload on a target."""


Floor = Callable[[Workload, Target], int]
"""What a workload allocates at once at the least, in bytes: quicker than an estimate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules one plan is made under.

    ``profiles`` are the named profiles of the target's GPU, or of the nearest smaller one that has some;
    ``profile`` is the name of the one whose rungs tunable values follow. ``writable`` narrows the options,
    ``startable`` less so: what files can say, or the environment a run is started in. ``possible`` leaves out
    what the framework does not run with, whoever writes it.
    Without ``packages_matter`` a plan that needs new packages is as good as one that does not.
    ``batch_harm`` is what another micro-batch does to this experiment at the least, and ``batch_reason`` why.
    """

    target: Target
    margin: Bytes
    allow: Harm = Harm.EXACT
    keep: tuple[str, ...] = ()
    tunable: tuple[str, ...] = ()
    profile: str | None = None
    profiles: tuple[NamedProfile, ...] = ()
    writable: Callable[[Option], bool] | None = None
    startable: Callable[[Option], bool] | None = None
    possible: Callable[[Option], bool] | None = None
    packages_matter: bool = True
    batch_harm: Harm | None = None
    batch_reason: str = ""

    def accepts(self, estimate: Estimate, margin: Bytes | None = None) -> bool:
        """Whether even the upper bounds leave the margin free, and fit the host's RAM if that is known."""
        free = self.margin if margin is None else margin
        return estimate.device.stays_within(self.target.limit - free) and self.has_ram(estimate)

    def has_ram(self, estimate: Estimate) -> bool:
        """Whether the host's RAM is enough for sure, as far as it is known."""
        return self.misses_ram(estimate) == 0

    def misses_ram(self, estimate: Estimate) -> Bytes:
        """Bytes of RAM that may be missing; 0 when the target does not say how much it has."""
        ram = self.target.ram
        free = self.margin if self.target.host_only else 0
        return Bytes(0) if ram is None else Bytes(max(0, estimate.host.high + free - ram))

    def misses(self, estimate: Estimate, margin: Bytes | None = None) -> Bytes:
        """Bytes above what the margin leaves of the limit; negative when there is room."""
        return Bytes(estimate.device.high + (self.margin if margin is None else margin) - self.target.limit)

    def labelled(self, option: Option) -> Option:
        """The option with the harm it does to this experiment, if that is more than it does to most."""
        if self.batch_harm is None or "batch.micro" not in option.changes or option.harm >= self.batch_harm:
            return option
        return replace(option, harm=self.batch_harm, reason=f"{option.reason}; {self.batch_reason}")

    def permits(self, option: Option) -> bool:
        """Whether an option does no more harm than allowed, touches no kept field, and can be written."""
        if option.harm > self.allow or any(self.keeps(field) for field in option.changes):
            return False
        return self.writable is None or self.writable(option)

    def keeps(self, field: str) -> bool:
        """Whether a field is frozen: by its own name, by its section, or because a part of it is."""
        return any(
            field == kept or field.startswith(f"{kept}.") or kept.startswith(f"{field}.")
            for kept in self.keep
        )

    def chosen_profile(self) -> NamedProfile | None:
        """The profile by its name, if the policy has one."""
        return next((entry for entry in self.profiles if entry.name == self.profile), None)


def policy_for(
    reading: Reading,
    target: Target,
    *,
    profile: str | None,
    margin: str | Bytes | None,
    allow: Harm,
    keep: tuple[str, ...],
) -> Policy:
    """The policy that the caller, the config and the profiles add up to.

    What ``--set`` gave a value keeps it, like a field that is to be kept.

    Raises:
        FieldError: a margin is not an amount or a share, or leaves nothing.
        UnknownNameError: a kept field or the profile does not exist.
    """
    _check_kept(reading.workload, keep)
    keep = (*keep, *(override.partition("=")[0].strip() for override in reading.overrides))
    wanted = profile or reading.profile
    entries = _profiles(target) if wanted or _climbs(reading) else ()
    chosen = _choose(target, entries, wanted)
    return Policy(
        target=target,
        margin=_margin(reading, target, margin, chosen, explicit=profile is not None),
        allow=max(allow, Harm[chosen.allow.upper()]) if chosen else allow,
        keep=keep,
        tunable=tuple(name for name in reading.tunable if name not in keep),
        profile=chosen.name if chosen else None,
        profiles=entries,
        batch_harm=reading.batch_harm,
        batch_reason=reading.batch_reason,
    )


def _climbs(reading: Reading) -> bool:
    """Whether tunable values follow the rungs of a profile; a mechanism has options of its own."""
    model = reading.workload.model
    return bool(reading.tunable) and not (isinstance(model, DeclaredModel) and model.mechanism is not None)


def _margin(
    reading: Reading,
    target: Target,
    given: str | Bytes | None,
    chosen: NamedProfile | None,
    *,
    explicit: bool,
) -> Bytes:
    if given is not None:
        return margin_bytes(str(given), target)
    if reading.margin is not None and not (explicit and chosen):
        origin = reading.origins.get("target.margin")
        return margin_bytes(reading.margin, target, origin.location if origin else None)
    return profile_margin(chosen, target) if chosen else Bytes(0)


def profile_margin(profile: NamedProfile, target: Target) -> Bytes:
    """What a named profile keeps free of the target's limit."""
    return share(Decimal(str(profile.margin)), target)


def _profiles(target: Target) -> tuple[NamedProfile, ...]:
    """The profiles of the target's GPU, or else of the largest GPU that is no larger and has some."""
    from memplan import profiles

    if target.host_only:
        return ()
    if target.gpu is not None and (own := profiles.named(target.gpu.name)):
        return own
    having = [(gpu.usable, gpu.name) for gpu in profiles.gpus() if profiles.named(gpu.name)]
    smaller = [entry for entry in having if entry[0] <= target.limit]
    if not having:
        return ()
    _, name = max(smaller) if smaller else min(having)
    return profiles.named(name)


def _choose(target: Target, entries: tuple[NamedProfile, ...], wanted: str | None) -> NamedProfile | None:
    if wanted is None:
        return next((entry for entry in entries if entry.default), None)
    found = next((entry for entry in entries if entry.name == wanted), None)
    if found is None:
        names = [entry.name for entry in entries]
        hint = f"its profiles are {', '.join(names)}" if names else None
        raise UnknownNameError.nearest(f"profile of {target.name}", wanted, names, hint=hint)
    return found


def _check_kept(workload: Workload, keep: tuple[str, ...]) -> None:
    known = _field_names(workload)
    for name in keep:
        if name not in known:
            hint = "--keep takes a field such as batch.micro, a section such as batch, or a declared value"
            raise UnknownNameError.nearest("field", name, known, hint=hint)


def _field_names(workload: Workload) -> list[str]:
    names = [name for name, _ in workload.model.values] if isinstance(workload.model, DeclaredModel) else []
    for section in fields(workload):
        names.append(section.name)
        value = getattr(workload, section.name)
        if section.name != "model" and is_dataclass(value):
            names += [f"{section.name}.{part.name}" for part in fields(value)]
    return names
