from array import array
from typing import Literal

ENGINE: Literal["avx2", "portable"]

def select_engine(portable: bool) -> None: ...
def aggregate(samples: memoryview, threads: int = 1) -> array[int]: ...
