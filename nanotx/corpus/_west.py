"""What is said in French, Russian and Greek. `6*` weighs an alternative; `<call>` is the name of who is spoken to."""
# ruff: noqa: RUF001  these letters are meant

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
