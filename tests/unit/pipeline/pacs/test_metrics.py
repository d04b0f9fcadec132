from pneumoseg.pipeline.pacs.metrics import REFUSALS, Metrics


def test_every_kind_of_refusal_is_there_before_the_first_one() -> None:
    registry = Metrics().registry
    values = [registry.get_sample_value("pneumoseg_refused_total", {"kind": kind}) for kind in REFUSALS]
    assert values == [0] * len(REFUSALS)


def test_two_listeners_of_one_process_count_for_themselves() -> None:
    first, second = Metrics(), Metrics()
    first.failed.inc()
    assert first.registry.get_sample_value("pneumoseg_analyses_failed_total") == 1
    assert second.registry.get_sample_value("pneumoseg_analyses_failed_total") == 0


def test_a_gauge_is_computed_when_it_is_read() -> None:
    metrics, waiting = Metrics(), [1]
    metrics.watch("studies_waiting", "Studies that are not analysed", lambda: len(waiting))
    assert metrics.registry.get_sample_value("pneumoseg_studies_waiting") == 1
    waiting.append(2)
    assert metrics.registry.get_sample_value("pneumoseg_studies_waiting") == 2
