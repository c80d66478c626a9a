"""What the page of the cache sends."""

from django import forms
from django.core.validators import RegexValidator

from inference.gateway.frames import MAX_DISTANCE

# What a header can carry, without blanks at its ends.
ZONE = RegexValidator(
    r"\A[!-~]([ -~]*[!-~])?\Z", "A zone's name goes into a header: use ASCII letters, digits and signs."
)


class ZoneForm(forms.Form):
    zone = forms.CharField(
        label="Zone",
        max_length=64,
        validators=[ZONE],
        help_text="As the client's x-aicleaner-zone names it; capitals count.",
    )
    distance = forms.IntegerField(
        label="Distance",
        min_value=0,
        max_value=MAX_DISTANCE,
        help_text=f"0 to {MAX_DISTANCE} of 64 bits. 0: pictures that look exactly alike; 4 bears noise and light.",
    )


class ClearForm(forms.Form):
    """`model` empty: all of them."""

    model = forms.CharField(required=False, max_length=200)
