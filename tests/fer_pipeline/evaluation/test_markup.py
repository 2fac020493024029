"""What is text and what is markup."""

from fer_pipeline.evaluation.markup import Markup, element, join


def test_text_and_attributes_are_escaped_and_elements_are_not():
    inner = element("b", "1 < 2", title='"quoted" & more')
    assert inner == '<b title="&quot;quoted&quot; &amp; more">1 &lt; 2</b>'
    assert element("p", inner, [" and ", inner], None) == f"<p>{inner} and {inner}</p>"
    assert join("<i>", Markup("<i>")) == "&lt;i&gt;<i>"


def test_attributes_have_html_names():
    made = element("rect", class_="bar", x=1.0, y=2.345, tabindex=0, aria_label="a", hidden=None)
    assert made == '<rect class="bar" x="1" y="2.35" tabindex="0" aria-label="a"></rect>'
    assert element("details", open=True, id=False) == "<details open></details>"
    assert element("br") == "<br>"
