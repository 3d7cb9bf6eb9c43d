from typing import TypedDict

class Gathered(TypedDict):
    architecture: str
    cpuid: list[tuple[int, int, int, int, int, int]]
    xcr0: int | None
    hwcap: int | None
    hwcap2: int | None
    sve_vl: int | None
    midr: int | None
    sysctl: dict[str, int]
    brand: str
    hwprobe: list[tuple[int, int]]
    vector_control: int | None
    vlenb: int | None

def gather() -> Gathered: ...
