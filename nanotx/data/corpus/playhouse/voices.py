"""The playhouse in seven languages: dialogues of two characters, each scene in one script.

`6*` is the weight of an alternative; `<call>` is the name of the listener.

The grammars are small on purpose: who does what, when and where; a greeting, a question, a number, the time. Sentences
are grammatically correct, and the text is in Unicode normal form C.
"""

import re
from dataclasses import dataclass
from functools import cache
from itertools import chain

from nanotx.data.corpus.playhouse.grammar import Grammar, Rules
from nanotx.data.corpus.playhouse.rewriting import factored, read_lines, unrolled

# ruff: noqa: RUF001  letters that look alike are intended

FRENCH = """
scene: Scène <ordinal>, <place>.
ordinal: 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9
sentence: 12* <when> <clause> | Bonjour, <call>\u00a0! | Merci, <call>. | Où est <thing>\u00a0? | Voilà <thing>.
    | J'ai <some> <things>. | Il est <hour> h <minutes>. | Bien sûr. | Peut-être demain.
when: Le matin, | À midi, | Le soir, | Chaque été, | Après la pluie,
clause: 3* <who> <act> <place>. | <who> <act>.
who: le roi | la reine | mon frère | ma mère | l'élève | un médecin
act: <writes> <writing> | <eats> <food> | <draws> <view>
writes: lit | écrit | apporte
writing: une lettre | un poème | une histoire | un récit
eats: mange | prépare | achète
food: du pâté | une crêpe | des pêches | du fromage
draws: dessine | décrit | imagine
view: la forêt | le château | les étoiles | un oiseau
place: dans le jardin | à la maison | près de la rivière | au café | sous un arbre
thing: la clé | le vélo | la boîte | le stylo bleu
things: idées | élèves | livres | pommes
some: 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 3* 1<digit>
digit: 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9
hour: 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9
minutes: 10 | 20 | 30 | 40 | 50
"""
RUSSIAN = """
scene: Сцена <ordinal>, <place>.
ordinal: 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9
sentence: 12* <when> <clause> | Здравствуй, <call>! | Спасибо, <call>. | Где <thing>? | Вот <thing>.
    | У меня <some> <things>. | Сейчас <hour>:<minutes>. | Да, конечно. | Может быть, завтра.
when: Утром | Днём | Вечером | Летом | Каждый день
clause: 3* <who> <act> <place>. | <who> <act>.
who: король | королева | мой брат | наша мама | учитель | весёлый повар
act: <writes> <writing> | <eats> <food> | <draws> <view>
writes: читает | пишет | хранит
writing: письмо | рассказ | стихи | дневник
eats: готовит | покупает | приносит
food: хлеб | суп | яблочный пирог | чай
draws: рисует | описывает | вспоминает
view: море | тёмный лес | звёзды | зимний сад
place: в саду | дома | у реки | в кафе | под деревом
thing: мой ключ | твой зонтик | наш чайник | синий карандаш
things: книг | карандашей | друзей | идей
some: 5 | 6 | 7 | 8 | 9 | 3* 1<digit>
digit: 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9
hour: 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9
minutes: 10 | 20 | 30 | 40 | 50
"""
GREEK = """
scene: Σκηνή <ordinal>, <place>.
ordinal: 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9
sentence: 12* <when> <clause> | Καλημέρα, <call>! | Ευχαριστώ, <call>. | Πού είναι <thing>; | Να <thing>.
    | Έχω <some> <things>. | Η ώρα είναι <hour>:<minutes>. | Ναι, βέβαια. | Ίσως αύριο.
when: Το πρωί | Το βράδυ | Κάθε μέρα | Σήμερα | Το καλοκαίρι
clause: 3* <who> <act> <place>. | <who> <act>.
who: ο βασιλιάς | η βασίλισσα | ο αδελφός μου | η γιαγιά | ένας μαθητής | ο ψαράς
act: <writes> <writing> | <eats> <food> | <draws> <view>
writes: διαβάζει | γράφει | στέλνει
writing: ένα γράμμα | ένα ποίημα | μια ιστορία | ένα μήνυμα
eats: τρώει | αγοράζει | ετοιμάζει
food: ψωμί | μια σούπα | ένα γλυκό | λίγο τυρί
draws: ζωγραφίζει | περιγράφει | θυμάται
view: τη θάλασσα | το δάσος | τα αστέρια | το παλιό λιμάνι
place: στον κήπο | στο σπίτι | κοντά στο ποτάμι | στην πλατεία | στο σχολείο
thing: το κλειδί | το ποδήλατο | το βιβλίο | το μολύβι
things: βιβλία | μολύβια | μήλα | ερωτήσεις
some: 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 3* 1<digit>
digit: 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9
hour: 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9
minutes: 10 | 20 | 30 | 40 | 50
"""


HINDI = """
scene: दृश्य <ordinal>, <place>।
ordinal: १ | २ | ३ | ४ | ५ | ६ | ७ | ८ | ९
sentence: 12* <when> <clause>। | नमस्ते, <call>! | धन्यवाद, <call>। | मेरी <thing> कहाँ है? | यह मेरी <thing> है।
    | मेरे पास <some> <things> हैं। | अभी <hour>:<minutes> बजे हैं। | हाँ, ज़रूर। | शायद कल।
when: सुबह | शाम को | हर दिन | गर्मियों में | दोपहर को
clause: <he> <his act> | <she> <her act>
he: राजा | मेरा भाई | एक किसान | लड़का
she: रानी | मेरी बहन | एक बच्ची | नानी
his act: 3* <place> <he does> | <he does>
her act: 3* <place> <she does> | <she does>
he does: <writing> <he writes> | <food> <he cooks> | <view> <he draws>
she does: <writing> <she writes> | <food> <she cooks> | <view> <she draws>
he writes: पढ़ता है | लिखता है | सुनाता है
she writes: पढ़ती है | लिखती है | सुनाती है
he cooks: बनाता है | खाता है | लाता है
she cooks: बनाती है | खाती है | लाती है
he draws: बनाता है | देखता है | दिखाता है
she draws: बनाती है | देखती है | दिखाती है
writing: चिट्ठी | कविता | कहानी | लंबी कथा
food: रोटी | खीर | दाल | सब्ज़ी
view: नदी का चित्र | पहाड़ का चित्र | चाँद का चित्र | पुराने पेड़ का चित्र
place: बगीचे में | घर पर | नदी के पास | पेड़ के नीचे | पाठशाला में
thing: चाबी | घड़ी | साइकिल | छतरी
things: किताबें | गेंदें | पेंसिलें | टोपियाँ
some: २ | ३ | ४ | ५ | ६ | ७ | ८ | ९ | 3* १<digit>
digit: ० | १ | २ | ३ | ४ | ५ | ६ | ७ | ८ | ९
hour: २ | ३ | ४ | ५ | ६ | ७ | ८ | ९
minutes: १० | २० | ३० | ४० | ५०
"""
ARABIC = """
scene: المشهد <ordinal>، <place>.
ordinal: ١ | ٢ | ٣ | ٤ | ٥ | ٦ | ٧ | ٨ | ٩
sentence: 12* <when> <clause> | مرحبًا يا <call>! | شكرًا يا <call>. | أين <thing>؟ | ها هو <thing>.
    | عندي <some> <things>. | الساعة الآن <hour>:<minutes>. | نعم، طبعًا. | ربما غدًا.
when: في الصباح | في المساء | كل يوم | اليوم | بعد الظهر
clause: 3* <act> <place>. | <act>.
act: <he writes> <he> <writing> | <she writes> <she> <writing> | <he eats> <he> <food> | <she eats> <she> <food>
    | <he draws> <he> <view> | <she draws> <she> <view>
he: الملك | أخي | المعلم | الطبيب
she: الملكة | أمي | المعلمة | جدتي
he writes: يقرأ | يكتب | يرسل
she writes: تقرأ | تكتب | ترسل
he eats: يأكل | يشتري | يريد
she eats: تأكل | تشتري | تريد
he draws: يرسم | يصف | يتذكر
she draws: ترسم | تصف | تتذكر
writing: رسالة | قصيدة | قصة | بطاقة
food: خبزًا | تمرًا | أرزًا | تفاحة
view: البحر | الغابة | النجوم | القمر
place: في الحديقة | في البيت | قرب النهر | تحت الشجرة | في المدرسة
thing: المفتاح | الكتاب | القلم | الفنجان
things: كتب | أقلام | أسئلة | أفكار
some: ٣ | ٤ | ٥ | ٦ | ٧ | ٨ | ٩
hour: ٢ | ٣ | ٤ | ٥ | ٦ | ٧ | ٨ | ٩
minutes: ١٠ | ٢٠ | ٣٠ | ٤٠ | ٥٠
"""
CHINESE = """
scene: 第<ordinal>场，<place>。
ordinal: 一 | 二 | 三 | 四 | 五 | 六 | 七 | 八 | 九
sentence: 12* <when>，<who><act>。 | 你好，<call>！ | 谢谢，<call>。 | 我的<thing>在哪里？ | 这是我的<thing>。
    | 我有<some><things>。 | 现在<hour>点<minutes>分。 | 是的，当然。 | 也许明天。
when: 早上 | 晚上 | 每天 | 夏天 | 下午
who: 国王 | 王后 | 我哥哥 | 老师 | 妈妈 | 渔夫
act: 3* <place><does> | <does>
does: <writes><writing> | <eats><food> | <draws><view>
writes: 读 | 写 | 抄
writing: 一封信 | 一首诗 | 一个故事 | 一篇日记
eats: 吃 | 买 | 做
food: 米饭 | 面条 | 饺子 | 豆腐
draws: 画 | 描写 | 想象
view: 大海 | 森林 | 星星 | 月亮
place: 在花园里 | 在家里 | 在河边 | 在树下 | 在学校
thing: 钥匙 | 雨伞 | 铅笔 | 帽子
things: 本书 | 支铅笔 | 个问题 | 个主意
some: 两 | 三 | 四 | 五 | 六 | 七 | 八 | 九 | 十
hour: 两 | 三 | 四 | 五 | 六 | 七 | 八 | 九 | 十
minutes: 十 | 二十 | 三十 | 四十 | 五十
"""
KOREAN = """
scene: 제<ordinal>장, <place>.
ordinal: 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9
sentence: 12* <when> <who> <act>. | 안녕하세요, <call> 씨! | 고마워요, <call> 씨. | 제 <thing> 어디에 있어요?
    | 여기 <found> 있어요. | 저는 <counted> 있어요. | 지금 <hour>시 <minutes>분이에요. | 네, 물론이에요. | 아마 내일요.
when: 아침에 | 저녁에 | 매일 | 여름에 | 오후에
who: 왕은 | 왕비는 | 우리 형은 | 선생님은 | 어머니는 | 어부는
act: 3* <place> <does> | <does>
does: <writing> <writes> | <food> <eats> | <view> <draws>
writing: 편지를 | 시를 | 이야기를 | 일기를
writes: 읽어요 | 써요 | 찾아요
food: 밥을 | 국수를 | 사과를 | 빵을
eats: 먹어요 | 사요 | 준비해요
view: 바다를 | 숲을 | 별을 | 달을
draws: 그려요 | 떠올려요 | 설명해요
place: 정원에서 | 집에서 | 강가에서 | 나무 아래에서 | 학교에서
thing: 열쇠는 | 우산은 | 연필은 | 모자는
found: 열쇠가 | 우산이 | 연필이 | 모자가
counted: 책이 <some>권 | 연필이 <some>자루 | 질문이 <some>개 | 사과가 <some>개
some: 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 3* 1<digit>
digit: 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9
hour: 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9
minutes: 10 | 20 | 30 | 40 | 50
"""


@dataclass(frozen=True, kw_only=True)
class Voice:
    """A language: its characters and its sentences."""

    casts: tuple[tuple[str, str], ...]
    rules: str
    scenes: int  # weight of its scenes; all languages fill about as many bytes
    colon: str = ": "  # between the speaker's name and the sentences
    gap: str = " "  # between two sentences


VOICES = {  # by Unicode's name of the script
    "Latin": Voice(casts=(("Chloé", "René"), ("Gaëlle", "Noël")), rules=FRENCH, scenes=8, colon="\u00a0: "),
    "Cyrillic": Voice(casts=(("Андрей", "Зоя"), ("Сергей", "Майя")), rules=RUSSIAN, scenes=7),
    "Greek": Voice(casts=(("Ελένη", "Σοφία"), ("Άννα", "Μαρία")), rules=GREEK, scenes=6),
    "Devanagari": Voice(casts=(("मीरा", "अमित"), ("राधा", "विजय")), rules=HINDI, scenes=5),
    "Arabic": Voice(casts=(("سلمى", "أحمد"), ("إيمان", "رضا")), rules=ARABIC, scenes=7),
    "Han": Voice(casts=(("小明", "丽华"), ("大卫", "阿宝")), rules=CHINESE, scenes=12, colon="：", gap=""),
    "Hangul": Voice(casts=(("민수", "지영"), ("하늘", "보라")), rules=KOREAN, scenes=10),
}


@cache
def the_voices() -> Grammar:
    """Return the grammar of many languages; its start is one scene."""
    rules: Rules = {"scene": {f"<{script} scene>\n\n<{script} cast>": voice.scenes for script, voice in VOICES.items()}}
    for script, voice in VOICES.items():
        rules = {**rules, **_spoken(script, voice)}
    return Grammar(factored(unrolled(rules)), "scene")


def _spoken(script: str, voice: Voice) -> Rules:
    """Return the rules of one language, whose names begin with its script."""
    rules = {
        f"{script} {name}": {re.sub("<", f"<{script} ", text): weight for text, weight in choices.items()}
        for name, choices in read_lines(voice.rules).items()
    }
    sentences = rules.pop(f"{script} sentence")
    turns = list(chain.from_iterable([(first, second), (second, first)] for first, second in voice.casts))
    rules[f"{script} cast"] = {f"<{script} {speaker} speaks>": 1 for speaker, _ in turns}
    for speaker, hearer in turns:
        more, answer = f"{script} {speaker} goes on", f"{script} {hearer} answers"
        spoken = {text.replace(f"<{script} call>", hearer): weight for text, weight in sentences.items()}
        rules |= {
            f"{script} {speaker} speaks": {f"{speaker}{voice.colon}<{script} {speaker} says><{more}><{answer}>": 1},
            f"{script} {speaker} says": spoken,
            more: {f"{voice.gap}<{script} {speaker} says><{more}>": 2, "\n": 3},
            answer: {f"<{script} {hearer} speaks>": 5, "\n": 1},
        }
    return rules
