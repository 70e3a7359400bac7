def test_what_the_runs_have_cost_stands_beside_them(material):
    runs = material.records.runs
    done, left = runs[runs["status"] == "done"], runs[runs["status"] != "done"]
    assert len(done) == 36 and (done["step"] == done["steps"]).all()
    # Two segments of 1.5 s of training and 2 s of compiling each.
    assert set(zip(done["seconds"], done["compile_seconds"], strict=True)) == {(3.0, 4.0)}
    assert sorted(left["step"]) == [0, 3, 40, 77] and set(left["seconds"]) == {0}


def test_only_finished_runs_are_judged_and_the_rest_is_accounted_for(material):
    assert len(material.marks.gap) == 36 == material.verdict.fit.rows
    notes = material.judged.notes
    assert len(notes) == 4 and all("1 of 40 runs left out" in note for note in notes)
