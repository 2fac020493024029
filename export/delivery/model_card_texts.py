"""What a model card says in words, by the kind of the training data where that matters."""

TITLE = "# Model card: facial expressions on 48x48 grey faces"

OWN_TITLE = "# Model card: classes of 48x48 grey faces"

NETWORKS = {
    "notebook": "after a public notebook: four convolution blocks and two dense ones with batch"
    " normalisation, ReLU and dropout, then a softmax over {classes} classes",
    "compact": "six residual blocks of two convolutions with batch normalisation and ReLU behind a"
    " strided convolution, then an average over the image, dropout and a softmax over {classes}"
    " classes",
}

OPTIMIZERS = {
    "adam": "Adam",
    "adamw": "AdamW",
    "muon": "Muon, and AdamW for what is no hidden kernel",
}

SCHEDULES = {
    "plateau": "the rate falls tenfold when the validation loss stalls for two epochs",
    "linear": "the rate rises, then falls linearly to zero",
}

USE = """\
Intended: research and teaching on image classification, on training pipelines and on models that
run on phones; software that shows or sorts *expressions in pictures* where a wrong answer costs
nothing, with the knowledge and consent of those who are seen.

Not intended, and not to be done with it:

- conclusions about what somebody feels, thinks, intends or is. The classes name how a face looks;
  how a face looks is no reliable sign of an inner state (Barrett et al., "Emotional Expressions
  Reconsidered", Psychological Science in the Public Interest 20, 2019);
- decisions with consequences for a person: hiring, work, school and examinations, insurance,
  credit, migration, policing, justice, medicine;
- watching people without their knowledge, and identifying them.

In the European Union, Regulation (EU) 2024/1689 (the AI Act) prohibits by Article 5(1)(f) AI
systems that infer the emotions of people at the workplace and in education institutions, except
for medical or safety reasons. Elsewhere it counts emotion recognition from biometric data among
the high-risk uses (Annex III, point 1(c)) and has the people exposed to it informed
(Article 50(3)). This is a pointer and no legal advice."""

USE_OWN = """\
The classes were named by whoever trained the model, and what they stand for is not known to this
software; whoever passes the model on should add it here.

Intended: research and teaching on image classification, on training pipelines and on models that
run on phones; software that sorts pictures by these classes where a wrong answer costs nothing,
with the knowledge and consent of those who are seen.

Not intended, and not to be done with it:

- conclusions about what somebody feels, thinks, intends or is. A class says which training images
  a picture is like, and how a face looks is no reliable sign of anything else;
- decisions with consequences for a person: hiring, work, school and examinations, insurance,
  credit, migration, policing, justice, medicine;
- watching people without their knowledge, and identifying them.

Which laws apply depends on what the classes stand for. Classes that stand for emotions, intentions
or personal traits fall under rules of their own in many places. This is a pointer and no legal
advice."""

SYNTHETIC = """\
Drawn faces that come with this software: NumPy renders them from facial action units, a seed fixes
them, and nobody is depicted. They are free of licences and of noise, and far easier than
photographs: **figures on them say that the software works, and nothing about real faces.**"""

FER2013_TERMS = """\
FER-2013 (Goodfellow et al., "Challenges in representation learning: a report on three machine
learning contests", 2013, arXiv:1307.0414) was collected with an image search engine and released
for research. It is not part of the export, no image of it is, and whether weights fitted to it may
serve another purpose is for whoever uses them to clear."""

FERPLUS = """\
Labels: FER+, a majority of ten people's votes (Barsoum et al., "Training deep networks for facial
expression recognition with crowd-sourced label distribution", 2016); faces without one are left
out, of the evaluation, too."""

OTHER_TERMS = """\
They were supplied by whoever trained the model, and their licence is not known to this software."""

MAYBE_FER2013_TERMS = """\
Where they are from FER-2013 (Goodfellow et al. 2013, arXiv:1307.0414), they are for research."""

PRETRAINED_TERMS = """\
The network had been trained before: it is the pretrained one of this software, made from FER-2013
(Goodfellow et al. 2013, arXiv:1307.0414), which was released for research. Whether weights that
began so may serve another purpose is for whoever uses them to clear."""

STARTED_TERMS = """\
The network had been trained before, on data of which nothing is known here."""

TAUGHT_TERMS = """\
It also learned from the answers of networks that were trained before."""

PRETRAINED_TAUGHT_TERMS = f"""\
{TAUGHT_TERMS[:-1]}, among
them the pretrained one of this software, made from FER-2013 (Goodfellow et al. 2013,
arXiv:1307.0414), which was released for research."""

CONDITIONS = """\
Of the conditions: faces are expected upright, from the front, cropped as the training images are,
and grey. Profile views, covered or tiny faces, motion blur and poor light are other conditions
than those of the figures below. The model answers with a class for any picture whatever, one
without a face included."""

FACTORS = f"""\
Of the groups that may matter, among them age, gender, skin tone, culture, glasses, beards, head
coverings, facial paralysis and other differences of faces, none is labelled in the data, so
**no difference between groups has been measured.** That is a gap and not a finding.

{CONDITIONS}"""

FACTORS_SYNTHETIC = f"""\
The drawn faces vary in shape, shade and pose as their program says, and belong to no group of
people, so **nothing is known of any difference between people.** That is a gap and not a finding.

{CONDITIONS}"""

MEASURES = """\
Accuracy is the share of images whose most probable class is their label; loss is the mean
cross-entropy in nats; precision, recall and F1 are given by class because a rare class hardly
shows in the accuracy; macro F1 is the plain mean of the classes' F1, and balanced accuracy that of
the recall of those that occur. A probability is the softmax' output."""

UNCALIBRATED = """\
Whether it is calibrated has not been measured, so no threshold on it is recommended."""

CALIBRATION = """\
The calibration error says how far it is from the share of right answers: images are put into 15
bins by their highest probability, and the error is the mean distance over all images (Guo et al.,
"On Calibration of Modern Neural Networks", 2017). On other pictures than these it may be larger."""

WITHOUT_DUPLICATES = """\
Some images of the source are training images too, pixel by pixel. Figures without them are those
of new pictures."""

HARM = """\
A wrong answer about a face can humiliate or harm where somebody takes it for a fact; the uses that
are ruled out above are ruled out for that reason."""

ETHICS = f"""\
The data may show people who never agreed to that use of their pictures. What expression a picture
shows was decided by annotators, whose culture and expectations the model repeats. {HARM}"""

ETHICS_OWN = f"""\
The data may show people who never agreed to that use of their pictures. Which class a picture is
of was decided by whoever sorted them, whose culture and expectations the model repeats. {HARM}"""

ETHICS_SYNTHETIC = f"""\
No picture of anybody was used. What each expression looks like was decided by the program that
draws it, after the facial action units of the literature; people's faces are not so plain.
{HARM}"""

LIMITS = """\
- {classes} classes are forced upon every face; {others}.
- 48x48 grey levels hold little: much that people read in a face is gone."""

OTHERS = "mixed and faint expressions have none"

OTHERS_OWN = "one that is of none of them gets one, too"

LIMITS_SYNTHETIC = """\
- It has seen drawings alone. Nothing says that it recognises anything on photographs."""

LIMITS_FER2013 = """\
- Pictures from the internet are often posed, and everyday faces look otherwise.
- Labels are noisy: people agree with them on about 65±5 % of the images (Goodfellow et al., 2013),
  so figures far above that are a reason for doubt.
- Classes are unequally frequent (see the numbers of images), and rare ones are recognised worse."""

LIMITS_OTHER = """\
- How well the labels fit the pictures has not been measured."""

LIMITS_UNEQUAL = """\
- Classes are unequally frequent (see the numbers of images); rare ones tend to be recognised
  worse."""

PRETRAINED = """\
## Weights

`model_weights.h5` holds the weights of the network alone, to train it further: in float16, or in
float32 where values are too large for that. Keras loads them into the network of this software:

    from fer_pipeline.models import networks

    model = networks.build_model("{network}")
    model.load_weights("model_weights.h5")

Trained further, it is another model, about which this card says nothing.
"""

ADVICE = """\
- Before any use on real people, measure it on pictures from that use, by group."""
