"""Nearest items of a vector: exact while that is fast, approximate with a measured recall above.

Throughout: N is the catalogue, D the embedding, Q the queries. Vectors are unit length, so the
inner product is the cosine.
"""

from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

FLAT_LIMIT = 50_000
"""Up to here an exact scan takes about half a millisecond on one core."""

RECALL_GATE, GATE_K = 0.95, 100
"""An approximate index must find this share of the exact first hundred on sampled items."""

faiss.omp_set_num_threads(1)  # one request, one core: threads of all workers would fight


@dataclass(frozen=True, slots=True)
class Index:
    """A FAISS index and the recall it was accepted with (1.0 = exact)."""

    faiss_index: Any
    recall: float

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k nearest rows of one query.

        Args:
            query: (D,) unit vector.
            k: how many; never more than there are items.

        Returns:
            item_ix (k,), cosine (k,), best first.
        """
        k = min(k, self.faiss_index.ntotal)
        score, ix = self.faiss_index.search(np.ascontiguousarray(query[None], dtype=np.float32), k)
        found = ix[0] >= 0  # an inverted list that runs dry pads with -1
        return ix[0][found], score[0][found]


def exact_search(vectors: np.ndarray, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The plain version of `Index.search`: every cosine, then the best k; ties by row."""
    score = vectors @ query
    ix = np.lexsort((np.arange(len(score)), -score))[:k]
    return ix, score[ix]


def build(vectors: np.ndarray) -> Index:
    """An index over (N, D) unit vectors; exact to FLAT_LIMIT, inverted lists of 8-bit codes above.

    Interview: When does a vector search need an approximate index?
        Later than most drawings say: an exact scan of fifty thousand short vectors is well under
        a millisecond and its recall is 1 by construction. Above that, inverted lists read a
        fraction of the codes, and the number of lists to probe is chosen by measured recall.
        Trade-off: a recall gate on item vectors is a stand-in for recall on user vectors.
        Shown by: tests/models/test_index.py::test_above_the_limit_recall_is_measured_not_hoped
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if len(vectors) <= FLAT_LIMIT:
        flat = faiss.IndexFlatIP(vectors.shape[1])
        flat.add(vectors)
        return Index(flat, 1.0)
    return _inverted(vectors)


def _inverted(vectors: np.ndarray) -> Index:
    """Inverted lists, probing twice as many until the recall gate holds."""
    n_lists = int(4 * np.sqrt(len(vectors)))
    ivf: Any = faiss.index_factory(
        vectors.shape[1], f"IVF{n_lists},SQ8", faiss.METRIC_INNER_PRODUCT
    )
    ivf.train(vectors)
    ivf.add(vectors)
    sample = vectors[:: max(1, len(vectors) // 200)]
    truth = [exact_search(vectors, query, GATE_K)[0] for query in sample]
    ivf.nprobe = 8
    while True:
        _, found = ivf.search(sample, GATE_K)
        recall = float(np.mean([np.isin(t, f).mean() for t, f in zip(truth, found, strict=True)]))
        if recall >= RECALL_GATE or ivf.nprobe >= n_lists:
            return Index(ivf, recall)
        ivf.nprobe = min(2 * ivf.nprobe, n_lists)
