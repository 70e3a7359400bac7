def test_what_the_runs_have_cost_stands_beside_them(material):
    runs = material.runs.set_index("run_id")
    done = runs[runs["status"] == "done"]
    assert (done["step"] == done["steps"]).all()
    # Two segments of 1.5 s of training and 2 s of compiling each.
    assert (done["seconds"] == 3.0).all() and (done["compile_seconds"] == 4.0).all()
    left = runs[runs["status"] != "done"]
    assert sorted(left["step"]) == [0, 3, 40, 77] and (left["seconds"] == 0).all()


def test_only_finished_runs_are_judged_and_the_rest_is_accounted_for(material):
    assert len(material.rows) == 36 == material.verdict.fits["gap"].rows
    assert len(material.notes) == 4 and all("1 of 40 runs left out" in note for note in material.notes)
