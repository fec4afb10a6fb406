"""Where the figures that the virtual cell is held against come from; `physics.py` names them by key.

Each entry was read (the whole page, or the abstract or table that is named); `says` is the fact taken from it.
`practice` and `model` are no publications: what no source was found for is said to be so.
"""

# ruff: noqa: E501  (addresses cannot be broken)
import dataclasses
from collections.abc import Mapping

__all__ = ["SOURCES", "Source", "source_keys"]


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """`reference`: author or organisation, title, year where known, address. `says`: the fact that is used."""

    reference: str
    says: str


SOURCES: Mapping[str, Source] = {
    "practice": Source(
        "practice (not found in a source)",
        "general knowledge of gas metal arc welding; looked for and not found in a text that could be read",
    ),
    "model": Source(
        "the model's own definition", "what must hold inside the model: set-points met, metal conserved, sound delayed"
    ),
    "esab-mig": Source(
        "ESAB, MIG Welding Handbook, pages 4 to 8, http://www.esabna.com/euweb/mig_handbook/592mig1_4.htm (to 592mig1_8)",
        "the wire shorts 20 to 200 times a second; globular drops are larger than the wire, shorts occasional; spray"
        " from 220 A (1.1 mm steel wire, 98 % Ar + 2 % O2), shorts rare, no sharp transition above about 15 % CO2;"
        " pulsed spray at 60 or 120 pulses a second, usually one drop each",
    ),
    "ssab-short-arc": Source(
        "SSAB, How to weld: short arc MAG welding,"
        " https://ssabwebsitecdn.azureedge.net/en/support/how-to-process/how-to-weld/shielding-gas/3-short-arc-mag-welding",
        "drops transfer at about 50 to 200 Hz",
    ),
    "wel21b": Source(
        "Welding textbook, pages on short-circuit transfer (author and year not shown), https://www.scribd.com/document/355783832/Wel21b",
        "short-circuit transfer at 50 to 225 A and 12 to 22 V, shorting 20 to over 200 times a second",
    ),
    "weldsmith-dip": Source(
        "R. D. Smith, Waveform analysis for MIG/GMAW dip-transfer mode, 2017,"
        " http://weldsmith.co.uk/tech/welding/datalog/GMAW_dip_170612.html",
        "measured at 10 kHz, 1.2 mm wire, Ar + 20 % CO2, 180 A, 18.7 V: shorts of about 1 ms, about 4.5 V during one,"
        " about 180 a second",
    ),
    "blumschein": Source(
        "E. Blumschein, Perception of irregular short pulses (mailing list Auditory), 1997,"
        " http://www.auditory.org/postings/1997/254.html",
        "the sound of short-circuit welding is clicks, typically 30 to 150 a second",
    ),
    "hermans": Source(
        "M. J. M. Hermans and G. den Ouden, Delft: the stability of the short circuit gas metal arc welding process is directly related to weld pool oscillations,"
        " https://www.scribd.com/document/255006776/ARTICLE4-pdf",
        "the process is most stable where the short-circuit rate meets the pool's oscillation frequency",
    ),
    "methong": Source(
        "T. Methong et al., Visualization of gas metal arc welding on globular to spray transition current,"
        " Sci. Technol. Weld. Joining 23 (2018) 87–94, https://doi.org/10.1080/13621718.2017.1344454 (abstract)",
        "carbon steel wire under Ar + 20 % CO2: transition at 330 to 350 A",
    ),
    "weldinganswers-spray": Source(
        "Welding Answers, Modes of metal transfer: spray, https://weldinganswers.com/modes-of-metal-transfer-spray/",
        "spray drops are smaller in diameter than the wire; the gas needs at least 80 % argon",
    ),
    "weldingtech": Source(
        "weldingtech.net, glossary: globular transfer; pulsed power, https://weldingtech.net/globular-transfer/ and https://weldingtech.net/category/glossary/page/30",
        "globular drops are larger than the wire and short at irregular intervals; pulses up to several hundred a second",
    ),
    "i-car": Source(
        "I-CAR, What is MIG pulse welding?, https://rts.i-car.com/collision-repair-news/what-is-mig-pulse-welding.html",
        "more than 50 pulses a second, one drop for each",
    ),
    "miller-feed": Source(
        "Miller Electric, OM-228 042, table 12-2, https://manualshive.com/ru/manual/miller-electric/renegade-180/1796700?page=47",
        "1.14 mm wire: about 1 in/min of feed per ampere, 75 to 250 A",
    ),
    "chang-babkin": Source(
        "Y. L. Chang and A. S. Babkin, Calculation of solid wire melting rate in CO2 welding, Welding Journal, 2016,"
        " https://studylib.net/doc/10623585/welding-research (abstract)",
        "melting rate follows current, wire diameter and extension; its figures for 1.2 mm could not be read",
    ),
    "panasonic": Source(
        "Panasonic, YD-350GL4 operating instructions, MAG table for 80 % Ar + 20 % CO2, page 56,"
        " https://manualarchiveguide.com/manuals/Panasonic-YD-350GL4-Operating-Instructions-Manual-5440922?page=56",
        "4 mm butt, 1.2 mm wire: 150–160 A, 17–18 V, 20–30 cm/min, contact tip 15 mm, 10–15 L/min, root gap 1.5–2 mm;"
        " fillets 50–60 cm/min",
    ),
    "otc": Source(
        "OTC Daihen, Welbee P400L II, reference conditions, page 164,"
        " https://manualshive.com/ru/manual/otc/welbee-p400l-ii/1658230?page=164",
        "horizontal fillets, 1.2 mm wire (the table stands under CO2 and flux wire): 250 A, 27 V to 300 A, 31 V at"
        " 30–50 cm/min; MAG short arc 25–55 cm/min, 10–15 L/min",
    ),
    "esab-gas": Source(
        "ESAB, Warrior 750i CC/CV manual 0463 730 001, page 24,"
        " https://manualshive.com/ru/manual/esab/warrior-750i-cc-cv/2425183?page=24",
        "Ar/CO2 on carbon steel: flow in L/min about ten times the wire's diameter in mm",
    ),
    "beyer": Source(
        "V. Beyer et al., Systematic study of effect of cross-drafts and nozzle diameter on shield gas coverage in MIG"
        " welding, 2013, https://ja.scribd.com/document/399929297/ (abstract)",
        "15–20 L/min is what is usually specified, 12 L/min was enough in production; too little gas gives pores and spatter",
    ),
    "bitharas": Source(
        "I. Bitharas et al., Visualisation and optimisation of shielding gas coverage during gas metal arc welding,"
        " J. Mater. Process. Technol. 255 (2018) 451–462, https://www.scribd.com/document/453490632/ (abstract)",
        "80 % Ar + 20 % CO2 gave good welds by radiography down to 5 L/min",
    ),
    "ctwd-calculator": Source(
        "Gera Services, contact-tip-to-work distance calculator, https://tools.gera.services/ctwd-voltage-drop-calculator",
        "tip distance of spray transfer 19–25 mm; current falls as it grows",
    ),
    "fandm-ctwd": Source(
        "Fabricating & Metalworking, Learn more about electrode extension, stickout and contact-tip-to-work distance,"
        " 2019, https://www.fabricatingandmetalworking.com/2019/01/learn-more-about-electrode-extension-stickout-and-contact-tip-to-work-distance/",
        "at constant voltage the amperage changes with the distance, through the wire's resistance",
    ),
    "goodheart": Source(
        "Goodheart-Willcox, GMAW/FCAW Handbook, 2018, page 76,"
        " https://www.g-wonlinetextbooks.com/cdn-1553780650759/gmaw-fcaw-handbook-2018/86",
        "longer extension heats the wire more and lowers the amperage",
    ),
    "lincoln-gmaw": Source(
        "Lincoln Electric, GMAW Welding Guide C4.200, https://ja.scribd.com/doc/57184921/C4200",
        "93 to 98 % of the wire is deposited; hydrogen in the deposit generally below 5 mL/100 g",
    ),
    "ssab-heat": Source(
        "SSAB, How to weld: heat input,"
        " https://ssabwebsitecdn.azureedge.net/en/support/how-to-process/how-to-weld/welding-heat-input/heat-input",
        "thermal efficiency of MAG, all types: 0.8",
    ),
    "kemppi-heat": Source(
        "Kemppi, Calculation of heat input in MIG/MAG welding, 2020,"
        " https://kemppi.com/en-NL/blogs/calculation-of-heat-input-in-mig-mag-welding",
        "arc energy in J/mm by ISO/TR 18491, times the process factor by ISO/TR 17671-1 for heat input",
    ),
    "mee": Source(
        "V. v. d. Mee, H. Meelker, R. v. d. Schelde, on hydrogen in duplex stainless steel welds,"
        " https://scribd.com/doc/77217477/Article-2 (abstract)",
        "GMA welds with 1.2 mm wire at 0.8 to 1.3 kJ/mm",
    ),
    "poopat": Source(
        "B. Poopat and E. Warinsiriruk, Acoustic signal analysis for classification of transfer mode in GMAW by noncontact"
        " sensing technique, Songklanakarin J. Sci. Technol. 28 (2006) 829–840, https://sjst.psu.ac.th/article.php?art=591",
        "sound RMS of short-circuit, globular and spray transfer: 79.74, 133.31 and 38.73 mV",
    ),
    "arc-sound": Source(
        "Fundamental analysis of the sound of (underwater) arc welding, ISOPE 1995, ISOPE-I-95-300,"
        " https://onepetro.org/ISOPEIOPEC/proceedings-abstract/ISOPE95/All-ISOPE95/ISOPE-I-95-300/23306 (abstract)",
        "the large noise comes of sudden changes, the pool touching and the arc's return; burn-through hardly shows in"
        " U and I and makes the sound louder while it lasts",
    ),
    "en-25817": Source(
        "EN 25817, extract of its limits, https://www.scribd.com/document/445864602/",
        "undercut 1.5, 1.0, 0.5 mm and convexity 1 mm + 0.25, 0.15, 0.1 of the width for levels D, C, B",
    ),
    "crater": Source(
        "Lake Washington Institute of Technology, Pipe welding: crater cracks, 2024,"
        " https://openwa.pressbooks.pub/lwtechweldingpipe/chapter/crater-cracks",
        "star-shaped, from the crater's centre to the edge of the weld, where the crater was not filled",
    ),
}  # fmt: skip


def source_keys(source: str) -> list[str]:
    """The keys of `SOURCES` in a row's `source`, which names one or several with commas between."""
    return [key.strip() for key in source.split(",")]
