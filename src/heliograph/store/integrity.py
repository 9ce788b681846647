"""Whether the database is whole, as it says itself."""

from heliograph.store.engine import Subject


class Integrity(Subject):
    """What the database is, whether it is damaged, and whether it keeps what is committed."""

    async def version(self) -> str:
        """Return the engine's name and version."""
        [(version,)] = await self._engine.fetch("integrity_version")
        return str(version)

    async def faults(self) -> list[str]:
        """Return what is damaged, as far as that is found by a quick look; at most a few.

        SQLite's quick check reads the whole file, and is given up as any read that takes too long.
        """
        return await self._all(str, "integrity_faults")

    async def lax_settings(self) -> list[str]:
        """Return the engine's settings, as `name=value`, by which commits may be lost."""
        return await self._all(str, "integrity_lax_settings")
