def test_what_the_runs_have_cost_stands_beside_them(material):
    runs = material.records.runs
    done = [run for run in runs if run.status == "done"]
    assert len(done) == 36 and all(run.row["step"] == run.row["steps"] for run in done)
    # Two segments of 1.5 s of training and 2 s of compiling each.
    assert {(run.seconds, run.compile_seconds) for run in done} == {(3.0, 4.0)}
    left = [run for run in runs if run.status != "done"]
    assert sorted(run.row["step"] for run in left) == [0, 3, 40, 77] and {run.seconds for run in left} == {0}


def test_only_finished_runs_are_judged_and_the_rest_is_accounted_for(material):
    assert len(material.marks.gap) == 36 == material.verdict.fit.rows
    notes = material.judged.notes
    assert len(notes) == 4 and all("1 of 40 runs left out" in note for note in notes)
