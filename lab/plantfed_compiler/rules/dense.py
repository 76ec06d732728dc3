"""Matrix products."""

from plantfed_compiler.emitting import Refused
from plantfed_compiler.rules.site import Rule, Site


def _matmul(site: Site) -> list[str | None]:
    graph, op, d = site.graph, site.graph.op, site.gradient
    a, b = site.x, site.input(1)
    shape_a, shape_b, given = graph.shape(a), graph.shape(b), graph.shape(site.y)
    if len(shape_a) < 2 or len(shape_b) < 2:
        raise Refused("one of its inputs is a vector", "Give both inputs two dimensions or more")
    found: list[str | None] = [None, None]
    if site.wants(0):
        product = op("MatMul", d, graph.swapped(b, len(shape_b)))
        found[0] = graph.unbroadcast(product, (*given[:-1], shape_b[-2]), shape_a)
    if site.wants(1):
        found[1] = _of_second(site, a, b)
    return found


def _of_second(site: Site, a: str, b: str) -> str:
    graph, op, d = site.graph, site.graph.op, site.gradient
    shape_a, shape_b = graph.shape(a), graph.shape(b)
    if len(shape_b) > 2:
        product = op("MatMul", graph.swapped(a, len(shape_a)), d)
        given = (*graph.shape(site.y)[:-2], *shape_b[-2:])
        return graph.unbroadcast(product, given, shape_b)
    if len(shape_a) > 2:
        # one product over all rows of the batch instead of many and their sum
        n_in, n_out = graph.sizes(b)
        a = op("Reshape", a, graph.integers(-1, n_in))
        d = op("Reshape", d, graph.integers(-1, n_out))
    return op("Gemm", a, d, transA=1)


def _gemm(site: Site) -> list[str | None]:
    """Y = alpha A' B' + beta C, where A' and B' may be transposed."""
    graph, op, d, a, b = site.graph, site.graph.op, site.gradient, site.x, site.input(1)
    attributes = site.attributes
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    turned_a, turned_b = attributes.get("transA", 0), attributes.get("transB", 0)
    found: list[str | None] = [None] * len(site.node.input)
    if site.wants(0):
        found[0] = (
            op("Gemm", b, d, transA=turned_b, transB=1, alpha=alpha)
            if turned_a
            else op("Gemm", d, b, transB=1 - turned_b, alpha=alpha)
        )
    if site.wants(1):
        found[1] = (
            op("Gemm", d, a, transA=1, transB=turned_a, alpha=alpha)
            if turned_b
            else op("Gemm", a, d, transA=1 - turned_a, alpha=alpha)
        )
    if site.wants(2):
        summed = graph.unbroadcast(d, graph.shape(site.y), graph.shape(site.input(2)))
        found[2] = summed if beta == 1 else op("Mul", summed, graph.number(beta))
    return found


RULES: dict[str, Rule] = {"Gemm": _gemm, "MatMul": _matmul}
